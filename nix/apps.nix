# `nix run .#deploy` and the like: hopcast on the topology.toml here or in the nearest directory above, as hopcast itself
# looks for it; where there is none, on the shipped one.
{
  self,
  lib,
  pkgs,
  system,
  ...
}:
let
  inherit (self.packages.${system})
    hopcast
    peer-image
    signalling-image
    postgres-image
    ;
  shipped = (self.lib.topology { file = ../topology.toml; }).file;

  # Leaves in `file` what names the topology file, unless the arguments do, and in `backend` whether they name that.
  find-file = ''
    at=$PWD
    until [ -e "$at/topology.toml" ] || [ "$at" = / ]; do
      at=$(dirname "$at")
    done
    file=(--file "$at/topology.toml")
    [ -e "$at/topology.toml" ] || file=(--file ${shipped})
    backend=
    for argument; do
      case $argument in
        -f | --file | --file=* | --name | --name=*) file=() ;;
        --backend | --backend=*) backend=given ;;
      esac
    done
    export backend
  '';
  app =
    name: description: runtimeInputs: text:
    let
      script = pkgs.writeShellApplication {
        name = "hopcast-${name}";
        runtimeInputs = [ hopcast ] ++ runtimeInputs;
        text = find-file + text;
      };
    in
    {
      type = "app";
      program = lib.getExe script;
      meta = { inherit description; };
    };
  command =
    name: description: words:
    app name description [ ] ''
      exec hopcast ${words} "''${file[@]}" "$@"
    '';
in
rec {
  default = deploy;
  deploy = app "deploy" "Bring the mesh up: with Docker, or as --backend says" [ ] ''
    if [ -z "$backend" ]; then
      # The images that Nix built, so that nothing is built on the way.
      hopcast image load ${peer-image}
      hopcast image load ${signalling-image}
      hopcast image load ${postgres-image}
      set -- --backend docker "$@"
    fi
    exec hopcast up "''${file[@]}" "$@"
  '';
  teardown = command "teardown" "Stop the mesh" "down";
  status = command "status" "Show what runs, and whether all is well" "status";
  graph = command "graph" "Draw the mesh as DOT, SVG or PNG" "graph";
  verify = command "verify" "Test the running mesh from outside" "verify";
  demo =
    app "demo" "A mesh on this machine, a song played at its far end, and the proof"
      [
        pkgs.ffmpeg-headless
        pkgs.jq
      ]
      ''
        # What names the mesh, here as there.
        which=("''${file[@]}" "$@")
        # 69 is that nothing of it runs. Any other mesh is somebody's, and not for `down` at the end.
        code=0
        hopcast status "''${which[@]}" >/dev/null 2>&1 || code=$?
        if [ "$code" != 69 ]; then
          echo "error: the mesh is up already, or cannot be asked (hopcast status ends with $code); take it down first: hopcast down ''${which[*]}" >&2
          exit 1
        fi
        scratch=$(mktemp -d)
        cleanup() {
          hopcast down "''${which[@]}" || true
          rm -rf "$scratch"
        }
        trap cleanup EXIT
        hopcast up "''${which[@]}" --backend local --detach --json | tail -n 1 >"$scratch/up.json"
        url=$(jq -r .farthest.url "$scratch/up.json")
        echo "playing $url"
        heard=$(timeout 300 ffmpeg -v error -i "$url" -map 0:a -f md5 -)
        echo "the player ended in order, what it heard has the $heard"
        hopcast verify "''${which[@]}"
      '';
}
