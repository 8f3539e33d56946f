"""Qt's names as the type checker can take them: PyQt5's stubs lack the short enum names.

No units. Invariant: nothing but names is defined here.
"""

from __future__ import annotations

from typing import Any

from PyQt5 import QtCore

Qt: Any = QtCore.Qt
