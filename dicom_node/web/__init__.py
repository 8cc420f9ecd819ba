"""The page of the node, in a browser: where everything stands, and a person's acts upon it.

Server-rendered, a process of its own under ``serve``. It writes nothing that the command line could not.
"""

from __future__ import annotations

from .app import create_app
from .serving import run

__all__ = ["create_app", "run"]
