# This machine. `scripts/nix` replaces this file in its copy of the stand-in; with these values everything evaluates, and
# nothing that needs a program of this machine builds.
{
  path = "/usr/bin:/bin";
  # Where cargo keeps what it has downloaded, rustup its toolchains, and where a build may leave what the next one takes.
  cargoHome = "/nonexistent";
  rustupHome = "/nonexistent";
  cargoTarget = "/nonexistent";
}
