"""Hypothesis strategies for shadow documents.

Keys come from a small set, so that patches meet documents; `timestamp` is among them on purpose.
"""

from typing import Any

from hypothesis import strategies as st

KEYS = st.sampled_from(["a", "b", "timestamp", "desired", "é", ""])

_SCALARS = (
    st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([2**64, -(10**30)])
    | st.sampled_from([0.0, 1.0, -1.5, 1e300])
    | st.sampled_from(["", "1", "on"])
)


def _values(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
    return st.recursive(
        scalars | st.lists(arrays | st.dictionaries(KEYS, _SCALARS, max_size=2), max_size=3),
        lambda inner: st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=10,
    )


def sections(*, nulls: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """One section; with nulls a patch that removes."""
    return st.dictionaries(KEYS, _values(_SCALARS | st.none() if nulls else _SCALARS), max_size=4)


def states(*, nulls: bool = False) -> st.SearchStrategy[Any]:
    """The `state` of a request."""
    section = sections(nulls=nulls)
    whole = st.fixed_dictionaries(
        {}, optional={name: section | st.none() if nulls else section for name in ("desired", "reported")}
    )
    return whole | st.none() if nulls else whole
