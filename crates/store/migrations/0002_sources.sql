-- On the origin, not replicated: the audio file that a copy was encoded from, so that an unchanged file is not encoded again.
CREATE TABLE hopcast.sources (
    song        bigint PRIMARY KEY REFERENCES hopcast.songs ON DELETE CASCADE,
    fingerprint bytea NOT NULL              -- SHA-256 over the file and what it is encoded to
);
REVOKE ALL ON hopcast.sources FROM PUBLIC;
