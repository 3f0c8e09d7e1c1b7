"""A bucket whose server answers as a test says."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from pynats_twisted.jetstream import StreamInfo
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.keyvalue import KeyCodec, KeyValue, KeyValueConfig, ValueCodec
from pynats_twisted.testing.server_frames import PublishFrame
from tests.jetstream.scripted import ScriptedTestCase

TIME = "2026-01-02T03:04:05.123456789Z"


class BucketTestCase(ScriptedTestCase):
    """A handle of a bucket ``b``, about which the server was not asked.

    :ivar kv: the bucket.
    """

    def setUp(self) -> None:
        super().setUp()
        self.kv = self.bucket(KeyValueConfig(bucket="b"))

    def bucket(self, config: KeyValueConfig, key_codec: KeyCodec | None = None, value_codec: ValueCodec | None = None) -> KeyValue:
        return KeyValue(Stream(self.js, StreamInfo(config=config.stream_config())), key_codec, value_codec)

    def header_of(self, frame: PublishFrame) -> dict[str, str]:
        return dict(frame.headers or {})

    # --- publishes -------------------------------------------------------------------------------------------

    def ack(self, seq: int) -> PublishFrame:
        """Answer the one publish, and return it."""
        frame = self.asked()
        self.peer.answer(frame, json.dumps({"stream": "KV_b", "seq": seq}).encode())
        return frame

    def refuse_publish(self, err_code: int, description: str = "no") -> PublishFrame:
        frame = self.asked()
        self.peer.answer(frame, json.dumps({"error": {"code": 400, "err_code": err_code, "description": description}}).encode())
        return frame

    # --- gets ------------------------------------------------------------------------------------------------

    def message(self, frame: PublishFrame, seq: int, key: str, data: bytes = b"", block: str = "", **more: int) -> None:
        """One message, in reply to a direct get."""
        lines = {"Nats-Stream": "KV_b", "Nats-Subject": f"$KV.b.{key}", "Nats-Sequence": seq, "Nats-Time-Stamp": TIME}
        lines.update({f"Nats-{name.replace('_', '-')}": value for name, value in more.items()})
        added = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.peer.answer(frame, data, block=f"NATS/1.0\r\n{block}{added}\r\n".encode())

    def page(self, *found: tuple[int, str, bytes], pending: int = 0, up_to: int = 0) -> PublishFrame:
        """Answer the one direct get with a page, or with nothing, and return it."""
        frame = self.asked()
        if not found:
            self.peer.answer(frame, block=b"NATS/1.0 404 Message Not Found\r\n\r\n")
            return frame
        last = 0
        for index, (seq, key, data) in enumerate(found):
            self.message(frame, seq, key, data, Num_Pending=pending + len(found) - index - 1, Last_Sequence=last)
            last = seq
        end = f"NATS/1.0 204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {last}\r\n"
        self.peer.answer(frame, block=(end + (f"Nats-UpTo-Sequence: {up_to}\r\n" if up_to else "") + "\r\n").encode())
        return frame

    def info(self, last_seq: int) -> None:
        """Answer the one question for the stream's info."""
        self.answer("stream_info", config={"name": "KV_b", "max_msgs_per_subject": 1}, state={"last_seq": last_seq})

    def stored(self, seq: int, key: str, headers: str = "") -> PublishFrame:
        """Answer the one question for a message by the server that leads."""
        message: dict[str, object] = {"subject": f"$KV.b.{key}", "seq": seq, "time": TIME}
        if headers:
            message["hdrs"] = base64.b64encode(f"NATS/1.0\r\n{headers}\r\n\r\n".encode()).decode()
        return self.answer("stream_msg_get", message=message)

    def keys_of(self, frame: PublishFrame) -> Sequence[str]:
        found: list[str] = self.request_of(frame)["multi_last"]
        return found
