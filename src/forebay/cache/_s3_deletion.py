"""Deletes the objects of a project from a bucket of S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from botocore.exceptions import ClientError

from forebay.cache._s3_metadata import key_of
from forebay.cache.object_names import HASHED, object_prefix


class DeletingClient(Protocol):
    """The methods of boto3's S3 client that find and delete objects."""

    def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's name
        Prefix: str,  # noqa: N803  # boto3's name
        StartAfter: str,  # noqa: N803  # boto3's name
    ) -> Mapping[str, Any]:
        """Return the first 1,000 objects behind a name, in the order of their names."""
        ...

    def head_object(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's name
        Key: str,  # noqa: N803  # boto3's name
    ) -> Mapping[str, Any]:
        """Return the metadata of an object."""
        ...

    def delete_objects(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's name
        Delete: Mapping[str, Any],  # noqa: N803  # boto3's name
    ) -> Mapping[str, Any]:
        """Delete up to 1,000 objects; the response has those that it refused to delete."""
        ...


def delete_project(
    client: DeletingClient, bucket: str, prefix: str, check: Callable[[], None]
) -> None:
    """Delete the objects of all artifacts of a project, 1,000 per request.

    Args:
        client: boto3's client.
        bucket: the bucket's name.
        prefix: with what the keys of the artifacts begin: ``account/project/``.
        check: called before each request; raises to stop.
    """
    for names in _names(client, bucket, object_prefix(prefix), check):
        _delete(client, bucket, names)
    # The name of a long key has only a hash of it. Its metadata has the key.
    for names in _names(client, bucket, HASHED, check):
        ours = []
        for name in names:
            check()
            metadata = client.head_object(Bucket=bucket, Key=name)["Metadata"]
            if key_of(metadata).startswith(prefix):
                ours.append(name)
        _delete(client, bucket, ours)


def _names(
    client: DeletingClient, bucket: str, prefix: str, check: Callable[[], None]
) -> Iterator[Sequence[str]]:
    check()
    last = prefix  # no object has this name
    while found := client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=last).get(
        "Contents"
    ):
        names = [each["Key"] for each in found]
        yield names
        check()
        last = names[-1]


def _delete(client: DeletingClient, bucket: str, names: Sequence[str]) -> None:
    if not names:
        return
    objects = [{"Key": name} for name in names]
    response = client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    if refused := response.get("Errors"):
        raise ClientError({"Error": refused[0]}, "DeleteObjects")
