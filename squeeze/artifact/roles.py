"""Roles of a file's tensors: by their names, or as its header's configuration says.

`roles` has the role of each matrix, by the name of its tensor in the file, that a forward of the model
showed when it was packed and that the name does not tell. Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from squeeze.errors import CorruptData
from squeeze.tensors.roles import ROLES, role_of

ROLES_FIELD = "roles"


def roles_field(names: Iterable[str], roles: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the field of a header with the roles that names do not tell; nothing where they tell all.

    names: of the file's tensors
    roles: by the name of a tensor, as a forward showed them
    """
    shown = {
        n: roles[n] for n in names if role_of(n) == "other" and roles.get(n, "other") != "other"
    }
    return {ROLES_FIELD: shown} if shown else {}


def roles_of_file(config: Mapping[str, object], names: Collection[str]) -> dict[str, str]:
    """Return the role of each tensor of a file, by name.

    config: configuration in its header

    Raises CorruptData for a field that is no object of words by the names of tensors.
    """
    shown = config.get(ROLES_FIELD, {})
    if not isinstance(shown, dict) or not all(isinstance(word, str) for word in shown.values()):
        raise CorruptData("roles in the header are no object of words", found=repr(shown)[:80])
    if not shown.keys() <= set(names):
        strange = min(shown.keys() - set(names))
        raise CorruptData("roles in the header name no tensor", found=repr(strange)[:80])
    roles = {}
    for name in names:
        named, word = role_of(name), shown.get(name, "other")
        # words of later releases count as none
        roles[name] = word if named == "other" and word in ROLES else named
    return roles
