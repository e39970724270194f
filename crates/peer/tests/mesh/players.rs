//! A real player: ffmpeg plays what a peer serves, also when a relay dies meanwhile.
