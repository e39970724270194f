# `nix develop`: everything that scripts/test and scripts/demo need, so that they install nothing.
{
  pkgs,
  self,
  system,
  ...
}:
{
  default = pkgs.mkShell {
    inputsFrom = [ self.packages.${system}.hopcast.programs ];
    packages = with pkgs; [
      cargo
      cargo-nextest
      chromium
      clippy
      deadnix
      docker-client
      ffmpeg-headless
      graphviz
      jq
      nixfmt
      postgresql_17
      (python3.withPackages (python: [
        python.pip
        python.virtualenv
      ]))
      rust-analyzer
      rustc
      rustfmt
      shellcheck
      util-linux
    ];
    # rust-analyzer wants the standard library's source.
    RUST_SRC_PATH = "${pkgs.rustPlatform.rustLibSrc}";
  };
}
