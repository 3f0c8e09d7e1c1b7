"""The subjects of the JetStream API, under its prefix."""

from __future__ import annotations

from ...errors import JetStreamConfigError
from .patterns import check_name, check_subject, name_problem, subject_problem

DEFAULT_PREFIX = "$JS.API"


class ApiPrefix:
    """The prefix of the JetStream API, and the subjects under it.

    :param domain: the JetStream domain to ask, when it is not the server's own: the prefix is ``$JS.<domain>.API``.
    :param api_prefix: the whole prefix, for an API that is imported from another account; not together with a domain. A dot at its end
        does not matter.
    :raises JetStreamConfigError: both are given, or one breaks a rule.

    The methods raise :class:`~pynats_twisted.errors.InvalidNameError` for the name of a stream or consumer that breaks a rule.
    """

    __slots__ = ("_consumer", "_direct", "_stream", "domain", "prefix")

    def __init__(self, *, domain: str | None = None, api_prefix: str | None = None) -> None:
        prefix = DEFAULT_PREFIX
        if domain is not None and api_prefix is not None:
            raise JetStreamConfigError("domain", domain, f"must not be set together with api_prefix, which is {api_prefix!r}")
        if domain is not None:
            problem = name_problem(domain)
            if problem:
                raise JetStreamConfigError("domain", domain, problem)
            prefix = f"$JS.{domain}.API"
        elif api_prefix is not None:
            bare = api_prefix.removesuffix(".") if isinstance(api_prefix, str) else api_prefix
            problem = subject_problem(bare)
            if problem:
                raise JetStreamConfigError("api_prefix", api_prefix, problem)
            prefix = bare
        #: The prefix, without a dot at its end.
        self.prefix = prefix
        #: The domain that was given, or "".
        self.domain = domain or ""
        self._stream = f"{prefix}.STREAM."
        self._consumer = f"{prefix}.CONSUMER."
        self._direct = f"{prefix}.DIRECT.GET."

    def __repr__(self) -> str:
        return f"ApiPrefix({self.prefix!r})"

    # --- the account -----------------------------------------------------------------------------------------

    def account_info(self) -> str:
        """What the account uses and may use."""
        return f"{self.prefix}.INFO"

    # --- streams ---------------------------------------------------------------------------------------------

    def stream_names(self) -> str:
        """The names of the streams, in pages."""
        return f"{self._stream}NAMES"

    def stream_list(self) -> str:
        """The infos of the streams, in pages."""
        return f"{self._stream}LIST"

    def stream_create(self, stream: str) -> str:
        """Make a stream."""
        return self._for_stream("CREATE", stream)

    def stream_update(self, stream: str) -> str:
        """Change a stream."""
        return self._for_stream("UPDATE", stream)

    def stream_info(self, stream: str) -> str:
        """The info of a stream."""
        return self._for_stream("INFO", stream)

    def stream_delete(self, stream: str) -> str:
        """Delete a stream."""
        return self._for_stream("DELETE", stream)

    def stream_purge(self, stream: str) -> str:
        """Remove messages from a stream."""
        return self._for_stream("PURGE", stream)

    def stream_leader_stepdown(self, stream: str) -> str:
        """Let another server lead a stream."""
        return self._for_stream("LEADER.STEPDOWN", stream)

    def msg_get(self, stream: str) -> str:
        """Read a message."""
        return self._for_stream("MSG.GET", stream)

    def msg_delete(self, stream: str) -> str:
        """Remove a message."""
        return self._for_stream("MSG.DELETE", stream)

    def direct_get(self, stream: str, subject: str = "") -> str:
        """Read messages from any server that has the stream (ADR-31).

        :param subject: the last message of this subject; the request is empty then, and permissions can be given by subject.
        :raises InvalidSubjectError: the subject breaks a rule or has wildcards.
        """
        check_name("stream", stream)
        if not subject:
            return f"{self._direct}{stream}"
        check_subject("subject", subject)
        return f"{self._direct}{stream}.{subject}"

    # --- consumers -------------------------------------------------------------------------------------------

    def consumer_names(self, stream: str) -> str:
        """The names of a stream's consumers, in pages."""
        return self._for_consumers("NAMES", stream)

    def consumer_list(self, stream: str) -> str:
        """The infos of a stream's consumers, in pages."""
        return self._for_consumers("LIST", stream)

    def consumer_create(self, stream: str, consumer: str = "", filter_subject: str = "") -> str:
        """Make or change a consumer.

        :param consumer: its name; without one the server chooses it, and ``filter_subject`` is not used.
        :param filter_subject: the configuration's ``filter_subject``, when it has one, so that permissions can be given by subject. With
            ``filter_subjects`` the server refuses one here.
        :raises InvalidSubjectError: the filter breaks a rule.
        """
        if not consumer:
            return self._for_consumers("CREATE", stream)
        if not filter_subject:
            return self._for_consumer("CREATE", stream, consumer)
        check_subject("filter subject", filter_subject, wildcards=True)
        return f"{self._for_consumer('CREATE', stream, consumer)}.{filter_subject}"

    def consumer_info(self, stream: str, consumer: str) -> str:
        """The info of a consumer."""
        return self._for_consumer("INFO", stream, consumer)

    def consumer_delete(self, stream: str, consumer: str) -> str:
        """Delete a consumer."""
        return self._for_consumer("DELETE", stream, consumer)

    def consumer_pause(self, stream: str, consumer: str) -> str:
        """Pause a consumer, or let it go on."""
        return self._for_consumer("PAUSE", stream, consumer)

    def consumer_reset(self, stream: str, consumer: str) -> str:
        """Let a consumer begin again (ADR-60)."""
        return self._for_consumer("RESET", stream, consumer)

    def consumer_unpin(self, stream: str, consumer: str) -> str:
        """Take the pin from a consumer's pinned client (ADR-42)."""
        return self._for_consumer("UNPIN", stream, consumer)

    def consumer_next(self, stream: str, consumer: str) -> str:
        """Ask a pull consumer for messages."""
        return self._for_consumer("MSG.NEXT", stream, consumer)

    def consumer_leader_stepdown(self, stream: str, consumer: str) -> str:
        """Let another server lead a consumer."""
        return self._for_consumer("LEADER.STEPDOWN", stream, consumer)

    def _for_stream(self, verb: str, stream: str) -> str:
        check_name("stream", stream)
        return f"{self._stream}{verb}.{stream}"

    def _for_consumers(self, verb: str, stream: str) -> str:
        check_name("stream", stream)
        return f"{self._consumer}{verb}.{stream}"

    def _for_consumer(self, verb: str, stream: str, consumer: str) -> str:
        check_name("stream", stream)
        check_name("consumer", consumer)
        return f"{self._consumer}{verb}.{stream}.{consumer}"
