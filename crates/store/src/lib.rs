//! Songs as HLS segments in PostgreSQL: schema, ingest, replication, reads.
