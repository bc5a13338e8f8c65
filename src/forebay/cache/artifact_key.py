"""`ArtifactKey`: the account, project, kind and name of an artifact, and its key."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.cache._arguments import check_handles, checked_text


@dataclass(frozen=True, slots=True)
class ArtifactKey:
    """The parts of an artifact's key, which is ``account/project/kind/name``.

    `CacheArtifacts.delete_project` finds the artifacts of a project by the beginning of their keys.
    With the kind in the key, one name may have an artifact of each kind, as the action results and
    the contents of some build tools.

    Attributes:
        account: the account's handle, without a slash and without NUL.
        project: the project's handle, without a slash and without NUL.
        kind: the kind of the artifact, as the server names it, without a slash and without NUL.
        name: its name, which may have slashes.

    Raises:
        TypeError: a part is not a str.
        ValueError: a part is empty or cannot be encoded as UTF-8, or a part other than
            the name has a slash or NUL.
    """

    account: str
    project: str
    kind: str
    name: str

    def __post_init__(self) -> None:
        """Check the parts."""
        check_handles(self.account, self.project)
        if "/" in checked_text("kind", self.kind):
            raise ValueError(f"kind {self.kind!r} has a slash, which ends a kind in a key")
        checked_text("name", self.name)
        for part in ("account", "project", "kind"):
            if "\0" in getattr(self, part):
                raise ValueError(
                    f"{part} {getattr(self, part)!r} has a NUL, which ends a text in C"
                )

    def __str__(self) -> str:
        """Return the key: ``account/project/kind/name``."""
        return f"{self.account}/{self.project}/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, key: str) -> ArtifactKey:
        """Return the parts of a key.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key does not have four parts that are not empty.
        """
        parts = checked_text("key", key).split("/", 3)
        if len(parts) < 4:  # the parts of a key
            raise ValueError(f"key {key!r} is not of the form account/project/kind/name")
        return cls(*parts)
