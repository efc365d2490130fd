"""Tests of bluestab; asserts of what they share are spelled out like their own."""

import sys

if "pytest" in sys.modules:  # processes that tests start need none
    sys.modules["pytest"].register_assert_rewrite("tests.support")
