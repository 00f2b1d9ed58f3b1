"""One canonical Arrow type for each encoding in which a value may arrive, and the casts to it.

Canonical are string, binary, list, fixed_size_list and struct; not canonical are dictionaries,
run-end encodings, views, large types and extension types.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.types import (
    is_binary_view,
    is_dictionary,
    is_fixed_size_list,
    is_large_binary,
    is_large_list,
    is_large_list_view,
    is_large_string,
    is_list,
    is_list_view,
    is_run_end_encoded,
    is_string_view,
    is_struct,
)

from fletching.table.ragged_array import offsets_of


def canonical(kind: pa.DataType) -> pa.DataType:
    """The one type we write for all the encodings of a value."""
    if is_dictionary(kind) or is_run_end_encoded(kind):
        return canonical(kind.value_type)
    if is_large_string(kind) or is_string_view(kind):
        return pa.string()
    if is_large_binary(kind) or is_binary_view(kind):
        return pa.binary()
    if is_fixed_size_list(kind):
        return pa.list_(canonical(kind.value_type), kind.list_size)
    if is_any_list(kind):
        return pa.list_(canonical(kind.value_type))
    if is_struct(kind):
        return pa.struct([pa.field(f.name, canonical(f.type), f.nullable) for f in kind])
    if isinstance(kind, pa.BaseExtensionType):
        return canonical(kind.storage_type)
    return kind


def is_any_list(kind: pa.DataType) -> bool:
    """Is it a list of any encoding: list, large, view, fixed size?"""
    is_view = is_list_view(kind) or is_large_list_view(kind)
    is_plain = is_list(kind) or is_large_list(kind)
    return bool(is_plain or is_view or is_fixed_size_list(kind))


def cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values in another encoding; a scalar becomes a list of one where `kind` is a list.

    Lists and structs are cast piece by piece: pyarrow casts no dictionary of string_view, and
    makes a broken list of a list_view that holds a null.
    """
    array = _decode(array)
    if array.type == kind:
        return array
    if is_list(kind):
        return _cast_to_list(array, kind)
    if is_struct(kind) and is_struct(array.type):
        children = [cast(child, field.type) for child, field in zip(array.flatten(), kind)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    return array.cast(kind)


def _decode(array: pa.Array) -> pa.Array:
    """The array without extension type, dictionary or run-end encoding."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        dictionary = cast(array.dictionary, canonical(array.type.value_type))
        array = dictionary.take(array.indices)
    if is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return array


def _cast_to_list(array: pa.Array, kind: pa.ListType) -> pa.ListArray:
    if is_any_list(array.type):
        items = cast(array.flatten(), kind.value_type)
        lengths_or_zero = pc.if_else(array.is_valid(), pc.list_value_length(array), 0)
        lengths = lengths_or_zero.to_numpy(zero_copy_only=False)
    else:
        items = cast(array, kind.value_type).drop_null()  # a null list holds nothing
        lengths = array.is_valid().to_numpy(zero_copy_only=False).astype(int)
    offsets = pa.array(offsets_of(lengths), pa.int32())
    nulls = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(offsets, items, type=kind, mask=nulls)
