# `nix fmt`: every Nix file of this repository.
{ pkgs, ... }: pkgs.nixfmt-tree
