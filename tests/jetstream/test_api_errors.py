"""Errors of the server: one class for everything, and named ones by ``err_code``."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.errors import JetStreamApiError, JetStreamDecodeError
from pynats_twisted.jetstream.api import ErrorObject, api_error

NAMED: dict[str, tuple[int, ...]] = {
    "StreamNotFoundError": (10059,),
    "StreamNameInUseError": (10058,),
    "StreamOfflineError": (10118, 10194),
    "ConfigRefusedError": (10052, 10074, 10133, 10021, 10012),
    "StreamConfigRefusedError": (10021, 10034, 10055, 10113, 10143, 10173, 10186, 10187, 10198, 10209, 10213, 10217),
    "StreamReconfiguringError": (10124, 10226),
    "SubjectOverlapError": (10065,),
    "SealedStreamError": (10109,),
    "StreamIdentityError": (10225,),
    "ConsumerNotFoundError": (10014, 10149),
    "ConsumerNameInUseError": (10013, 10148, 10105),
    "ConsumerActiveError": (10105,),
    "ConsumerOfflineError": (10119, 10195),
    "ConsumerConfigRefusedError": (10012, 10079, 10084, 10100, 10116, 10135, 10136, 10162, 10184, 10218, 10219, 10220, 10221, 10222),
    "ConsumerFilterError": (10136, 10137, 10138, 10139),
    "PriorityGroupError": (10160, 10161, 10162, 10196, 10197),
    "ConsumerResetError": (10204,),
    "MaximumConsumersError": (10026,),
    "MaximumStreamsError": (10027,),
    "JetStreamLimitError": (10002, 10023, 10026, 10027, 10047),
    "JetStreamNotEnabledError": (10039, 10076),
    "JetStreamUnavailableError": (10008,),
    "RequiredApiLevelError": (10185,),
    "JetStreamApiLevelError": (10185,),
    "JetStreamBadRequestError": (10003, 10025),
    "InvalidJsonError": (10025,),
    "MessageNotFoundError": (10037, 10043),
    "MessageDeleteError": (10057,),
    "WrongStreamError": (10060,),
    "WrongLastMessageIdError": (10070,),
    "WrongLastSequenceError": (10071, 10164),
    "ExpectationNotReadyError": (10163,),
    "InvalidExpectationError": (10193,),
    "DuplicateInProcessError": (10158,),
    "StreamStoreError": (10077,),
    "MessageExceedsMaximumError": (10054, 10097),
    "JetStreamTooManyRequestsError": (10167,),
    "SourceHeaderError": (10227,),
    "MessageTTLError": (10165, 10166),
    "CounterError": (10168, 10169, 10170, 10171, 10172),
    "ScheduleError": (10188, 10189, 10190, 10191, 10192, 10203, 10212, 10223),
    "AtomicBatchError": (10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201, 10210),
    "TooManyAtomicBatchesError": (10210,),
    "FastBatchError": (10205, 10206, 10207, 10208, 10211),
    "UnknownFastBatchError": (10208,),
    "TooManyFastBatchesError": (10211,),
}


def classes(kind: type[JetStreamApiError]) -> list[type[JetStreamApiError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in classes(child))]


class ApiErrorTests(SynchronousTestCase):
    """api_error()."""

    def test_named_errors(self) -> None:
        """An error of the server can be caught by what it means."""
        for name, codes in NAMED.items():
            for code in codes:
                error = api_error({"code": 400, "err_code": code, "description": "words"})
                self.assertIsInstance(error, getattr(errors, name), code)
                self.assertIsInstance(error, JetStreamApiError)
                self.assertEqual((error.code, error.err_code, error.description), (400, code, "words"))
                self.assertEqual(str(error), f"words (code 400, err_code {code})")

    def test_every_class_is_reached(self) -> None:
        """Each named class is in the list above, and no code has two of them."""
        named = [kind for kind in classes(JetStreamApiError) if kind.err_codes]
        self.assertEqual({kind.__name__ for kind in named} - set(NAMED), set())
        codes = [code for kind in named for code in kind.err_codes]
        self.assertEqual(len(codes), len(set(codes)))
        self.assertTrue(all(10_000 < code < 11_000 for code in codes))

    def test_other_errors(self) -> None:
        """An error without a class of its own, from a newer server, or without an ``err_code``, is a plain JetStreamApiError."""
        for raw in ({"code": 500, "err_code": 19_999, "description": "new"}, {"code": 503}, {"code": 503, "err_code": None}):
            self.assertIs(type(api_error(raw)), JetStreamApiError)
        self.assertEqual(str(api_error({"code": 503})), "the server gave no reason (code 503, err_code 0)")

    def test_what_is_no_error(self) -> None:
        """A damaged error is a JetStreamDecodeError."""
        wrong: list[Any] = [
            None,
            "no",
            [],
            {},
            {"code": "400"},
            {"code": True},
            {"code": 400, "err_code": "x"},
            {"code": 1, "description": 2},
        ]
        for raw in wrong:
            self.assertRaises(JetStreamDecodeError, api_error, raw)

    def test_last_sequence(self) -> None:
        """A publish that expected another last sequence can learn the right one, where the server says it."""
        for code, words, number in [
            (10071, "wrong last sequence: 17", 17),
            (10071, "wrong last sequence", None),
            (10071, "", None),
            (10071, "wrong last sequence: " + "9" * 30, None),
            (10164, "wrong last sequence", None),
        ]:
            error = api_error({"code": 400, "err_code": code, "description": words})
            assert isinstance(error, errors.WrongLastSequenceError)
            self.assertEqual(error.last_sequence, number)

    def test_nobody_answers(self) -> None:
        """JetStream being off is one error, whether the server says so or nobody answers."""
        error = errors.JetStreamNotEnabledError(503, description="nobody answers on '$JS.API.INFO'")
        self.assertEqual((error.code, error.err_code), (503, 0))

    def test_too_old_a_server(self) -> None:
        """A server that refuses for its API level gives the same error as the check before asking."""
        error = api_error({"code": 412, "err_code": 10185, "description": "JetStream minimum api level required"})
        assert isinstance(error, errors.JetStreamApiLevelError)
        self.assertEqual((error.required, error.available, error.features), (None, None, ()))

    def test_errors_inside_of_answers(self) -> None:
        """The error of a mirror or source can be read, and made an exception."""
        error = ErrorObject(code=404, err_code=10059, description="stream not found").exception()
        self.assertIsInstance(error, errors.StreamNotFoundError)
