//! The signalling server: who is here, and the shortest way between them.
