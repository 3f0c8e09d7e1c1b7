# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: nonecheck=False, infer_types=False, binding=True, embedsignature=False
"""The compiled twin of the hot paths. What each thing means is said where its pure twin is defined."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from ..errors import (
    HeadersNotSupportedError,
    MaxPayloadExceededError,
    MessageNotRepliableError,
    OutboundBufferFullError,
)
from . import encoder as _encoder
from . import parser as _parser
from .events import Event, EventType
from .headers import Headers, ParsedHeaders, parse_headers

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void* PyUnicode_DATA(object text)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)

cdef object _MSG = EventType.MSG
cdef object _UNSUBSCRIBED = EventType.UNSUBSCRIBED
cdef bytes _NOTHING = b""
cdef str _EMPTY = ""
cdef object _ZERO = 0


# --- message.py --------------------------------------------------------------------------------------------------


@cython.freelist(512)
cdef class Msg:
    """A message that a server delivered; as :class:`pynats_twisted.protocol.message.Msg`."""

    cdef public object subject
    cdef public object sid
    cdef public object reply
    cdef public object data
    cdef public object raw_headers
    cdef public object subscription
    cdef object _parsed

    type = _MSG

    def __init__(self, subject, sid, reply, data, raw_headers=_NOTHING):
        self.subject = subject
        self.sid = sid
        self.reply = reply
        self.data = data
        self.raw_headers = raw_headers

    @property
    def body(self):
        """The message itself."""
        return self

    cdef object _headers(self):
        if self._parsed is None:
            self._parsed = parse_headers(self.raw_headers) if self.raw_headers else ParsedHeaders(Headers(), None, "", None)
        return self._parsed

    @property
    def headers(self):
        """The headers; read when first asked for."""
        return self._headers().headers

    @property
    def status(self):
        """The status in the header block's first line (for example 503: no responders), or None."""
        return self._headers().status if self.raw_headers else None

    @property
    def status_text(self):
        """The text behind the status, or ``""``."""
        return self._headers().status_text if self.raw_headers else ""

    @property
    def headers_problem(self):
        """What is odd about the header block, in words, or None."""
        return self._headers().problem if self.raw_headers else None

    @property
    def size(self):
        """Bytes of subject, reply, headers and payload together."""
        return len(self.subject) + len(self.reply) + len(self.raw_headers) + len(self.data)

    def respond(self, payload=b"", headers=None):
        """Publish to the reply subject, through the client that got the message."""
        if not self.reply:
            raise MessageNotRepliableError(f"the message on {self.subject!r} has no reply subject")
        try:
            respond = self.subscription._respond
        except AttributeError:
            raise MessageNotRepliableError(f"the message on {self.subject!r} did not come through a client that could send the reply") from None
        return respond(self.reply, payload, headers)

    def __eq__(self, other):
        if isinstance(other, EventType):
            return other is _MSG
        return self is other

    def __hash__(self):
        return object.__hash__(self)

    def __repr__(self):
        reply = f" reply={self.reply!r}" if self.reply else ""
        status = f" status={self.status}" if self.status is not None else ""
        return f"<Msg {self.subject!r}{reply}{status} {len(self.data)} bytes>"


# --- parser.py ---------------------------------------------------------------------------------------------------

cdef enum:
    CACHED = 1024  # a power of two
    CACHED_SUBJECT = 128


cdef class MessageReader:
    """Reads messages that are in the input as a whole and are written as servers write them; stops before anything else."""

    cdef Py_ssize_t _max_line
    cdef int64_t _max_message
    # Subjects and sids that came before: most come again. A slot keeps the last one that fell into it.
    cdef list _subjects
    cdef list _sids
    cdef uint64_t _sid_numbers[CACHED]

    def __cinit__(self, Py_ssize_t max_line, int64_t max_message):
        self._max_line = max_line
        self._max_message = max_message
        self._subjects = [_EMPTY] * CACHED
        self._sids = [_ZERO] * CACHED
        for index in range(CACHED):
            self._sid_numbers[index] = 0

    cdef object _subject(self, const char* text, Py_ssize_t size):
        cdef uint32_t key = <uint32_t>size
        cdef Py_ssize_t index
        cdef object known
        if size > CACHED_SUBJECT:
            return PyUnicode_DecodeUTF8(<char*>text, size, "surrogateescape")
        for index in range(size):
            key = (key ^ <unsigned char>text[index]) * <uint32_t>16777619
        key = (key ^ (key >> 15)) & (CACHED - 1)
        known = <object>PyList_GET_ITEM(self._subjects, key)
        if PyUnicode_GET_LENGTH(known) == size and memcmp(PyUnicode_DATA(known), text, size) == 0:
            return known
        known = PyUnicode_DecodeUTF8(<char*>text, size, "surrogateescape")
        # Of others the length in characters is not the length in bytes.
        if PyUnicode_IS_COMPACT_ASCII(known):
            self._subjects[key] = known
        return known

    cdef object _sid(self, uint64_t number):
        cdef Py_ssize_t slot = number & (CACHED - 1)
        if self._sid_numbers[slot] == number:
            return <object>PyList_GET_ITEM(self._sids, slot)
        sid = number
        self._sids[slot] = sid
        self._sid_numbers[slot] = number
        return sid

    def read(self, bytes data not None, Py_ssize_t position, list out not None):
        """Append the messages from ``position`` on to ``out``; returns where the first thing begins that it does not read."""
        cdef const char* start = PyBytes_AS_STRING(data)
        cdef const char* stop = start + PyBytes_GET_SIZE(data)
        cdef const char* at = start + position
        cdef const char* line
        cdef const char* words[6]
        cdef Py_ssize_t sizes[6]
        cdef int count
        cdef int least
        cdef bint with_headers
        cdef uint64_t sid = 0
        cdef uint64_t size = 0
        cdef uint64_t header_size = 0
        cdef Msg msg
        while stop - at > 8:
            line = at
            if memcmp(at, b"MSG ", 4) == 0:
                at += 4
                with_headers = False
                least = 3
            elif memcmp(at, b"HMSG ", 5) == 0:
                at += 5
                with_headers = True
                least = 4
            else:
                return line - start
            count = 0
            words[0] = at
            while True:
                if at >= stop or at - line > self._max_line:
                    return line - start
                if at[0] > c" ":
                    at += 1
                    continue
                if at[0] == c" " or at[0] == c"\n" or at[0] == c"\r":
                    if at == words[count]:
                        return line - start
                    sizes[count] = at - words[count]
                    count += 1
                    if at[0] != c" ":
                        break
                    if count > least:
                        return line - start
                    at += 1
                    words[count] = at
                    continue
                if <unsigned char>at[0] >= 0x80 or at[0] != c"\t":
                    at += 1
                    continue
                return line - start
            if count < least or count > least + 1:
                return line - start
            if at[0] == c"\r":
                at += 1
                if at >= stop or at[0] != c"\n":
                    return line - start
            if at - line > self._max_line:
                return line - start
            at += 1
            if not _number(words[1], sizes[1], &sid) or not _number(words[count - 1], sizes[count - 1], &size):
                return line - start
            header_size = 0
            if with_headers and (not _number(words[count - 2], sizes[count - 2], &header_size) or header_size > size):
                return line - start
            if <int64_t>size > self._max_message or stop - at < <Py_ssize_t>size + 2:
                return line - start
            if at[size] != c"\r" or at[size + 1] != c"\n":
                return line - start
            msg = Msg.__new__(Msg)
            msg.subject = self._subject(words[0], sizes[0])
            msg.sid = self._sid(sid)
            msg.reply = _EMPTY if count == least else PyUnicode_DecodeUTF8(<char*>words[2], sizes[2], "surrogateescape")
            msg.raw_headers = PyBytes_FromStringAndSize(<char*>at, header_size) if header_size else _NOTHING
            msg.data = PyBytes_FromStringAndSize(<char*>at + header_size, size - header_size)
            out.append(msg)
            at += size + 2
        return at - start


cdef inline bint _number(const char* text, Py_ssize_t size, uint64_t* number):
    cdef uint64_t value = 0
    cdef Py_ssize_t index
    if size > 18:
        return False
    for index in range(size):
        if text[index] < c"0" or text[index] > c"9":
            return False
        value = value * 10 + <uint64_t>(text[index] - c"0")
    number[0] = value
    return True


class Parser(_parser.Parser):
    """Complete messages by the reader above, everything else by the pure parser, which is where it is documented."""

    __slots__ = ("_reader",)

    _make = Msg

    def __init__(self, max_line=_parser.MAX_LINE, max_info_line=_parser.MAX_INFO_LINE, max_message=_parser.MAX_MESSAGE):
        super().__init__(max_line, max_info_line, max_message)
        self._reader = MessageReader(max_line, max_message)

    def _read(self, data, position, out):
        length = len(data)
        reader = self._reader
        while (position := reader.read(data, position, out)) < length:
            end = data.find(b"\n", position)
            if end < 0:
                self._line += memoryview(data)[position:]
                self._check_unfinished_line()
                return
            position = self._other_line(data, position, end, out)
            if position < 0:
                return


# --- routing.py --------------------------------------------------------------------------------------------------


cdef class SubscriptionRecord:
    """One subscription; as :class:`pynats_twisted.protocol.routing.SubscriptionRecord`."""

    cdef public object subject
    cdef public object queue
    cdef public object sid
    cdef public object owner
    cdef public int64_t limit
    cdef public int64_t delivered
    cdef public int64_t delivered_before

    def __init__(self, subject, queue, sid, owner):
        self.subject = subject
        self.queue = queue
        self.sid = sid
        self.owner = owner

    def __repr__(self):
        queue = f" queue={self.queue!r}" if self.queue else ""
        return f"<Subscription {self.sid} {self.subject!r}{queue} {self.delivered}/{self.limit or '-'}>"


cdef class Router:
    """Finds the subscriptions of messages; as :class:`pynats_twisted.protocol.routing.Router`."""

    cdef public dict records
    cdef public int64_t unknown

    def __init__(self, dict records not None):
        self.records = records

    def route(self, list parsed not None, Py_ssize_t start, list events not None):
        """Append messages to ``events``, with their subscriptions, up to the first thing that is none."""
        cdef Py_ssize_t index
        cdef Msg msg
        cdef PyObject* found
        cdef SubscriptionRecord record
        for index in range(start, PyList_GET_SIZE(parsed)):
            item = <object>PyList_GET_ITEM(parsed, index)
            if type(item) is not Msg:
                return index
            msg = <Msg>item
            found = PyDict_GetItemWithError(self.records, msg.sid)
            if found is NULL:
                self.unknown += 1
                continue
            record = <SubscriptionRecord?><object>found
            record.delivered += 1
            msg.subscription = record.owner
            events.append(msg)
            if record.delivered == record.limit:
                del self.records[record.sid]
                events.append(Event(_UNSUBSCRIBED, record))
        return PyList_GET_SIZE(parsed)


def hand_out(list events not None, other):
    """Give each message to its subscription, several for the same one together, and everything else to ``other``."""
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t messages = 0
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t begin
    cdef Msg msg
    while index < PyList_GET_SIZE(events):
        item = <object>PyList_GET_ITEM(events, index)
        index += 1
        if type(item) is Msg:
            msg = <Msg>item
            messages += 1
            size += len(msg.data)
            subscription = msg.subscription
            if subscription is not None:
                begin = index - 1
                while index < PyList_GET_SIZE(events):
                    item = <object>PyList_GET_ITEM(events, index)
                    if type(item) is not Msg or (<Msg>item).subscription is not subscription:
                        break
                    messages += 1
                    size += len((<Msg>item).data)
                    index += 1
                if index - begin == 1:
                    subscription._deliver(msg)
                else:
                    subscription._deliver_run(events[begin:index])
                continue
        other(item)
    return messages, size


# --- encoder.py --------------------------------------------------------------------------------------------------

cdef enum:
    MAX_KNOWN = 4096
    MAX_KNOWN_SUBJECT = 256
    # PUB or HPUB, two numbers, their spaces, and the ends of the line and of the payload.
    HEAD_ROOM = 5 + 2 * 21 + 2 + 2


cdef inline const char* _plain_subject(text, Py_ssize_t* size):
    """The bytes of a subject to publish to that is ASCII and valid; NULL of any other, which the pure twin judges."""
    cdef const char* at
    cdef Py_ssize_t index
    cdef char last = c"."
    if type(text) is not str or not PyUnicode_IS_COMPACT_ASCII(text):
        return NULL
    at = <const char*>PyUnicode_DATA(text)
    size[0] = PyUnicode_GET_LENGTH(text)
    for index in range(size[0]):
        if at[index] <= c" " or at[index] == 0x7F or at[index] == c"*" or at[index] == c">":
            return NULL
        if at[index] == c"." and last == c".":
            return NULL
        last = at[index]
    return NULL if last == c"." else at


cdef inline char* _put(char* to, const char* text, Py_ssize_t size):
    memcpy(to, text, size)
    return to + size


cdef inline char* _put_number(char* to, uint64_t number, char after):
    cdef char digits[20]
    cdef int count = 0
    while True:
        digits[count] = <char>(c"0" + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    while count:
        count -= 1
        to[0] = digits[count]
        to += 1
    to[0] = after
    return to + 1


cdef class PublishEncoder:
    """Makes PUB and HPUB; as :class:`pynats_twisted.protocol.encoder.PublishEncoder`."""

    # Subjects that are not plain ASCII and were found valid, with a space behind them.
    cdef dict _known
    cdef int64_t _max_payload
    # What encode() writes into, and copies from.
    cdef PublishBuffer _scratch
    cdef public bint headers_supported

    def __init__(self):
        self._known = {}
        self._max_payload = -1
        self.headers_supported = True

    @property
    def max_payload(self):
        """Bytes of headers and payload together that the server accepts; None where it is not known."""
        return None if self._max_payload < 0 else self._max_payload

    @max_payload.setter
    def max_payload(self, value):
        self._max_payload = -1 if value is None else value

    cdef bytes _subject(self, subject):
        """A subject that is not plain, with a space behind it."""
        if type(subject) is not str:
            return _encoder._checked(subject)
        found = self._known.get(subject)
        if found is None:
            found = _encoder._checked(subject)
            if PyBytes_GET_SIZE(found) <= MAX_KNOWN_SUBJECT:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[subject] = found
        return found

    cdef bytes _block(self, headers):
        """The header block, or None where there is none."""
        if type(headers) is not Headers:
            headers = Headers(headers)
        if not headers:
            return None
        if not self.headers_supported:
            raise HeadersNotSupportedError("the server does not support headers")
        return headers.encode()

    cdef int _check_size(self, Py_ssize_t size) except -1:
        if self._max_payload >= 0 and size > self._max_payload:
            raise MaxPayloadExceededError(size, self._max_payload)
        return 0

    def encode(self, list out not None, subject, payload=_NOTHING, reply=None, headers=None):
        """Append the parts of one publish to ``out`` and return how many bytes they are together."""
        cdef bytes head
        cdef bytes body = payload if type(payload) is bytes else _encoder._bytes(payload)
        cdef Py_ssize_t size
        if self._scratch is None:
            self._scratch = PublishBuffer(self)
        size = self._scratch._write_head(subject, PyBytes_GET_SIZE(body), reply, headers)
        head = PyBytes_FromStringAndSize(self._scratch._data, size)
        out.append(head)
        out.append(body)
        out.append(_CRLF)
        return size + PyBytes_GET_SIZE(body) + 2


# --- publish_buffer.py -------------------------------------------------------------------------------------------

cdef bytes _CRLF = b"\r\n"
cdef int64_t _UNBOUNDED = <int64_t>1 << 62

cdef enum:
    # A payload of this size or more is passed on as it is, without a copy.
    LARGE = 16384
    FIRST_CAPACITY = 4096
    KEPT_CAPACITY = 131072


@cython.final
cdef class Done:
    """An awaitable that is done, for all callers alike."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def __repr__(self):
        return "<done>"


DONE = Done()
cdef object _DONE = DONE


cdef class PublishBuffer:
    """Gathers frames; as :class:`pynats_twisted.protocol.publish_buffer.PublishBuffer`."""

    cdef public PublishEncoder encoder
    cdef public int64_t pending
    cdef public int64_t accepted
    cdef public int64_t accepted_bytes
    cdef public int64_t bound
    cdef public int64_t crowded_at
    cdef public bint armed
    cdef public object refusal
    cdef char* _data
    cdef Py_ssize_t _used
    cdef Py_ssize_t _capacity
    # What came before the bytes in _data.
    cdef list _pieces

    def __cinit__(self, *args, **kwargs):
        self._data = NULL

    def __init__(self, PublishEncoder encoder not None):
        self.encoder = encoder
        self.bound = _UNBOUNDED
        self.crowded_at = _UNBOUNDED
        self.armed = True
        self._pieces = []

    def __dealloc__(self):
        PyMem_Free(self._data)

    cdef int _make_room(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity = self._capacity or FIRST_CAPACITY
        cdef char* data
        while capacity < self._used + more:
            capacity *= 2
        data = <char*>PyMem_Realloc(self._data, capacity)
        if data is NULL:
            raise MemoryError()
        self._data = data
        self._capacity = capacity
        return 0

    cdef Py_ssize_t _write_head(self, subject, Py_ssize_t body_size, reply, headers) except -1:
        """Write what stands before the payload behind what is there, without taking it in; returns its size."""
        cdef PublishEncoder encoder = self.encoder
        cdef Py_ssize_t subject_size = 0
        cdef Py_ssize_t reply_size = 0
        cdef Py_ssize_t block_size = 0
        cdef const char* subject_text = _plain_subject(subject, &subject_size)
        cdef const char* reply_text = NULL
        cdef bytes odd_subject = None
        cdef bytes odd_reply = None
        cdef bytes block = None
        cdef char* to
        cdef char* begin
        if subject_text is NULL:
            odd_subject = encoder._subject(subject)
            subject_text = PyBytes_AS_STRING(odd_subject)
            subject_size = PyBytes_GET_SIZE(odd_subject) - 1
        if reply:
            reply_text = _plain_subject(reply, &reply_size)
            if reply_text is NULL:
                odd_reply = _encoder._checked(reply)
                reply_text = PyBytes_AS_STRING(odd_reply)
                reply_size = PyBytes_GET_SIZE(odd_reply) - 1
        if headers:
            block = encoder._block(headers)
            if block is not None:
                block_size = PyBytes_GET_SIZE(block)
        encoder._check_size(block_size + body_size)
        if self._capacity - self._used < subject_size + reply_size + block_size + HEAD_ROOM:
            self._make_room(subject_size + reply_size + block_size + HEAD_ROOM)
        begin = to = self._data + self._used
        if block is None:
            to = _put(to, b"PUB ", 4)
        else:
            to = _put(to, b"HPUB ", 5)
        to = _put(to, subject_text, subject_size)
        to[0] = c" "
        to += 1
        if reply_text is not NULL:
            to = _put(to, reply_text, reply_size)
            to[0] = c" "
            to += 1
        if block is not None:
            to = _put_number(to, block_size, c" ")
        to = _put_number(to, block_size + body_size, c"\r")
        to[0] = c"\n"
        to += 1
        if block is not None:
            to = _put(to, PyBytes_AS_STRING(block), block_size)
        return to - begin

    def publish(self, subject, payload=_NOTHING, reply=None, headers=None):
        """Take a publish."""
        cdef bytes body
        cdef Py_ssize_t body_size
        cdef Py_ssize_t head_size
        cdef Py_ssize_t size
        if self.refusal is not None:
            raise self.refusal.with_traceback(None)
        body = payload if type(payload) is bytes else _encoder._bytes(payload)
        body_size = PyBytes_GET_SIZE(body)
        head_size = self._write_head(subject, body_size, reply, headers)
        size = head_size + body_size + 2
        if self.pending + size > self.bound:
            raise OutboundBufferFullError(self.pending, size, self.bound)
        self._used += head_size
        if body_size >= LARGE:
            self._cut()
            self._pieces.append(body)
        else:
            if self._capacity - self._used < body_size + 2:
                self._make_room(body_size + 2)
            memcpy(self._data + self._used, PyBytes_AS_STRING(body), body_size)
            self._used += body_size
        memcpy(self._data + self._used, b"\r\n", 2)
        self._used += 2
        self.pending += size
        self.accepted += 1
        self.accepted_bytes += size
        if not self.armed:
            self._first()
        if self.pending >= self.crowded_at:
            return self._crowded()
        return _DONE

    def add(self, bytes lines not None):
        """Take lines that are not a publish."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(lines)
        if self._capacity - self._used < size:
            self._make_room(size)
        memcpy(self._data + self._used, PyBytes_AS_STRING(lines), size)
        self._used += size
        self.pending += size
        if not self.armed:
            self._first()

    cdef int _cut(self) except -1:
        self._pieces.append(PyBytes_FromStringAndSize(self._data, self._used))
        self._used = 0
        if self._capacity > KEPT_CAPACITY:
            self._capacity = 0
            PyMem_Free(self._data)
            self._data = NULL
        if self._capacity < FIRST_CAPACITY:
            self._make_room(FIRST_CAPACITY)
        return 0

    def take(self):
        """Everything that gathered since the last call."""
        cdef list pieces
        if self._used:
            self._cut()
        pieces = self._pieces
        self._pieces = []
        return pieces

    def _first(self):
        """Something waits that nobody is about to fetch."""

    def _crowded(self):
        """Much waits."""
        return _DONE
