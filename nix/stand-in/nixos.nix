# The options of NixOS that hopcast's modules set, and the text of the units that they describe.
{ lib, packages }:
{
  system,
  modules,
  specialArgs ? { },
}:
let
  inherit (lib) mkOption types;
  pkgs = packages system;
  list = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  set =
    type:
    mkOption {
      type = types.attrsOf type;
      default = { };
    };
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };

  # What a line of a unit may hold.
  value = types.oneOf [
    types.bool
    types.int
    types.str
    types.path
    (types.listOf (types.either types.str types.path))
  ];
  unit = {
    options = {
      description = mkOption {
        type = types.str;
        default = "";
      };
      documentation = list;
      after = list;
      before = list;
      bindsTo = list;
      partOf = list;
      requires = list;
      wantedBy = list;
      wants = list;
      unitConfig = set value;
    };
  };
  service = {
    imports = [ unit ];
    options = {
      environment = set types.str;
      path = mkOption {
        type = types.listOf types.package;
        default = [ ];
      };
      restartTriggers = mkOption {
        type = types.listOf types.raw;
        default = [ ];
      };
      script = mkOption {
        type = types.lines;
        default = "";
      };
      serviceConfig = set value;
    };
  };

  line =
    name: given:
    let
      text =
        if lib.isBool given then
          (if given then "true" else "false")
        else if lib.isList given then
          lib.concatMapStringsSep "\n${name}=" toString given
        else
          toString given;
    in
    lib.optionalString (given != [ ]) "${name}=${text}\n";
  section = name: lines: "[${name}]\n" + lib.concatStringsSep "" (lib.mapAttrsToList line lines);
  relations =
    each:
    {
      Description = each.description;
      After = toString each.after;
      Before = toString each.before;
      BindsTo = toString each.bindsTo;
      PartOf = toString each.partOf;
      Requires = toString each.requires;
      Wants = toString each.wants;
    }
    // each.unitConfig;
  filled = lib.filterAttrs (_: given: given != "");
  serviceText =
    name: each:
    let
      script = pkgs.writeShellApplication {
        name = "unit-script-${lib.replaceStrings [ "@" ] [ "" ] name}";
        text = each.script;
      };
      body =
        each.serviceConfig
        // lib.optionalAttrs (each.script != "") {
          ExecStart = lib.getExe script;
        };
    in
    section "Unit" (filled (relations each))
    + section "Service" (
      body
      // {
        Environment = lib.mapAttrsToList (key: text: "\"${key}=${text}\"") (
          each.environment // { PATH = "${lib.makeBinPath each.path}:/run/current-system/sw/bin"; }
        );
      }
    );

  nixos =
    { config, ... }:
    {
      options = {
        assertions = mkOption {
          type = types.listOf types.raw;
          default = [ ];
        };
        boot.kernel.sysctl = set types.raw;
        environment.systemPackages = mkOption {
          type = types.listOf types.package;
          default = [ ];
        };
        networking = {
          hostName = mkOption { type = types.str; };
          hosts = set (types.listOf types.str);
          firewall = {
            enable = flag true;
            allowedTCPPorts = mkOption {
              type = types.listOf types.port;
              default = [ ];
            };
            interfaces = set (
              types.submodule {
                options.allowedTCPPorts = mkOption {
                  type = types.listOf types.port;
                  default = [ ];
                };
              }
            );
          };
          interfaces = set (
            types.submodule {
              options.ipv4.addresses = mkOption {
                type = types.listOf (
                  types.submodule {
                    options = {
                      address = mkOption { type = types.str; };
                      prefixLength = mkOption { type = types.ints.unsigned; };
                    };
                  }
                );
                default = [ ];
              };
            }
          );
          useDHCP = flag true;
        };
        services.postgresql = {
          enable = flag false;
          enableTCPIP = flag false;
          checkConfig = flag true;
          package = mkOption {
            type = types.package;
            default = pkgs.postgresql_17;
          };
          finalPackage = mkOption {
            type = types.package;
            default = config.services.postgresql.package;
          };
          authentication = mkOption {
            type = types.lines;
            default = "";
          };
          initdbArgs = list;
          settings = set types.raw;
        };
        system = {
          stateVersion = mkOption { type = types.str; };
          build = set types.raw;
        };
        systemd = {
          services = set (types.submodule service);
          targets = set (types.submodule unit);
          units = set (types.submodule { options.text = mkOption { type = types.str; }; });
          tmpfiles.rules = list;
        };
        virtualisation = {
          cores = mkOption {
            type = types.ints.positive;
            default = 1;
          };
          diskSize = mkOption {
            type = types.nullOr types.ints.positive;
            default = 1024;
          };
          memorySize = mkOption {
            type = types.ints.positive;
            default = 1024;
          };
          vlans = mkOption {
            type = types.listOf types.ints.unsigned;
            default = [ 1 ];
          };
        };
      };
      config = {
        systemd.units =
          lib.mapAttrs' (
            name: each: lib.nameValuePair "${name}.service" { text = serviceText name each; }
          ) config.systemd.services
          // lib.mapAttrs' (
            name: each: lib.nameValuePair "${name}.target" { text = section "Unit" (filled (relations each)); }
          ) config.systemd.targets;
        system.build.evaluated =
          let
            failed = lib.filter (each: !each.assertion) config.assertions;
          in
          if failed != [ ] then
            throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (each: "- ${each.message}") failed}"
          else
            {
              units = lib.mapAttrs (_: each: each.text) config.systemd.units;
              inherit (config.networking) firewall hosts;
              postgresql = lib.mapAttrs (_: toString) config.services.postgresql.settings;
            };
      };
    };
in
lib.evalModules {
  modules = [ nixos ] ++ modules;
  specialArgs = specialArgs // {
    inherit pkgs;
  };
}
