"""The outbox: an artifact's row and its queued upload are committed in one transaction.

The upload is requested in a column of the artifact's row. Triggers queue it when the row is
committed, unless this content is in the object storage already. So a crash never leaves one without
the other, and an artifact that is stored again with the same content is not uploaded again.
"""

from __future__ import annotations

import json
from typing import Final

from uuid_utils import uuid7

from forebay.cache.artifact_key import ArtifactKey
from forebay.cache.tables import Clock

_QUEUE: Final = """
    INSERT INTO s3_transfers
        (id, type, account_handle, project_handle, artifact_type, key, inserted_at, sha256)
    VALUES (
        json_extract(NEW.upload, '$[0]'), 'upload', json_extract(NEW.upload, '$[1]'),
        json_extract(NEW.upload, '$[2]'), json_extract(NEW.upload, '$[3]'), NEW.key,
        json_extract(NEW.upload, '$[4]'), coalesce(NEW.sha256, '')
    )
    ON CONFLICT (type, key, sha256) DO NOTHING;
"""

TRIGGERS: Final = (
    f"""
    CREATE TRIGGER IF NOT EXISTS cas_artifacts_upload_of_new AFTER INSERT ON cas_artifacts
    WHEN NEW.upload IS NOT NULL AND NEW.sha256 IS NOT NEW.uploaded_sha256
    BEGIN {_QUEUE} END
    """,
    f"""
    CREATE TRIGGER IF NOT EXISTS cas_artifacts_upload_again AFTER UPDATE OF upload ON cas_artifacts
    WHEN NEW.upload IS NOT NULL AND NEW.upload IS NOT OLD.upload
        AND NEW.sha256 IS NOT NEW.uploaded_sha256
    BEGIN {_QUEUE} END
    """,
    # A batch may write a row that requests an upload before the update that makes it needless.
    """
    CREATE TRIGGER IF NOT EXISTS cas_artifacts_uploaded
    AFTER UPDATE OF uploaded_sha256 ON cas_artifacts WHEN NEW.uploaded_sha256 IS NOT NULL
    BEGIN
        DELETE FROM s3_transfers
        WHERE type = 'upload' AND key = NEW.key AND sha256 = NEW.uploaded_sha256;
    END
    """,
)


class InsertionTimes:
    """The times at which transfers are queued, by which the queue is sorted.

    Each is later than the one before, even within one microsecond or after the clock was set back,
    across restarts too.
    """

    def __init__(self, clock: Clock, latest: int) -> None:
        """Begin behind the latest transfer.

        Args:
            clock: returns the current time.
            latest: when the newest transfer of the table was queued, or 0.
        """
        self._clock = clock
        self._latest = latest

    def next(self) -> int:
        """Return the time of the next transfer."""
        self._latest = max(self._latest + 1, self._clock())
        return self._latest


def upload_request(name: ArtifactKey, inserted_at: int) -> str:
    """Return what the column `upload` of an artifact's row has to request its upload."""
    return json.dumps([str(uuid7()), name.account, name.project, name.kind, inserted_at])
