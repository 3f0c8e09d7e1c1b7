"""The two twins of the hot paths, and which one runs.

The pure twin is plain Python, the definition of what is right. The compiled one, ``_speedups``, does the same faster, and is there
where the package was built with a C compiler. With ``PYNATS_TWISTED_PURE=1`` in the environment the pure one runs anyway.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from .encoder import PublishEncoder
from .message import Msg
from .parser import Parser
from .publish_buffer import DONE, PublishBuffer
from .routing import Router, SubscriptionRecord, hand_out

implementation = "pure"

if not TYPE_CHECKING and os.environ.get("PYNATS_TWISTED_PURE", "") in ("", "0"):
    try:
        from ._speedups import DONE, Msg, Parser, PublishBuffer, PublishEncoder, Router, SubscriptionRecord, hand_out
    except ModuleNotFoundError as error:
        if error.name != f"{__package__}._speedups":
            raise
    except ImportError as error:
        # Built for another machine, or from other sources than these: what runs must not depend on it unseen.
        warnings.warn(f"the compiled twin cannot be used, the pure one runs: {error}", RuntimeWarning, stacklevel=1)
    else:
        implementation = "compiled"

__all__ = ["DONE", "Msg", "Parser", "PublishBuffer", "PublishEncoder", "Router", "SubscriptionRecord", "hand_out", "implementation"]
