# The programs, each under its name, and the images of the Docker backend.
{
  lib,
  pkgs,
  ...
}:
let
  programs = import ./programs.nix { inherit lib pkgs; };
  only =
    name:
    pkgs.runCommand name
      {
        meta = programs.meta // {
          mainProgram = name;
        };
      }
      ''
        mkdir -p "$out/bin"
        ln -s ${programs}/bin/${name} "$out/bin/"
      '';
in
rec {
  default = hopcast;

  # With what it runs on its path. It finds the other programs beside itself.
  hopcast =
    pkgs.runCommand "hopcast"
      {
        nativeBuildInputs = [ pkgs.makeWrapper ];
        inherit (programs) meta;
        passthru = { inherit programs; };
      }
      ''
        mkdir -p "$out/bin"
        makeWrapper ${programs}/bin/hopcast "$out/bin/hopcast" \
          --suffix PATH : ${
            lib.makeBinPath [
              pkgs.postgresql_17
              pkgs.graphviz
              pkgs.ffmpeg-headless
            ]
          }
      '';
  hopcast-peer = only "hopcast-peer";
  hopcast-signalling = only "hopcast-signalling";
}
// import ./images.nix { inherit lib pkgs programs; }
