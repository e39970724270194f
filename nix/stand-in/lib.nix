# The functions of nixpkgs' lib that hopcast's Nix files call.
let
  lib = {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      floor
      foldl'
      genList
      head
      isAttrs
      isBool
      isFunction
      isInt
      isList
      isPath
      isString
      length
      listToAttrs
      mapAttrs
      match
      replaceStrings
      stringLength
      substring
      tail
      toJSON
      ;
    id = x: x;
    genAttrs =
      names: value:
      lib.listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = f: set: lib.listToAttrs (lib.mapAttrsToList f set);
    mapAttrsToList = f: set: map (name: f name set.${name}) (lib.attrNames set);
    filterAttrs =
      keep: set: removeAttrs set (lib.filter (name: !keep name set.${name}) (lib.attrNames set));
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    concatMapStrings = f: values: lib.concatStringsSep "" (map f values);
    concatMapStringsSep =
      between: f: values:
      lib.concatStringsSep between (map f values);
    range = first: last: if first > last then [ ] else lib.genList (n: first + n) (last - first + 1);
    imap1 = f: values: lib.genList (n: f (n + 1) (lib.elemAt values n)) (lib.length values);
    unique = lib.foldl' (known: value: if lib.elem value known then known else known ++ [ value ]) [ ];
    toInt = builtins.fromJSON;
    min = a: b: if a < b then a else b;
    max = a: b: if a > b then a else b;
    hasPrefix = prefix: text: lib.substring 0 (lib.stringLength prefix) text == prefix;
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then lib.substring (lib.stringLength prefix) (-1) text else text;
    hasSuffix =
      suffix: text:
      let
        rest = lib.stringLength text - lib.stringLength suffix;
      in
      rest >= 0 && lib.substring rest (-1) text == suffix;
    splitString = between: text: lib.filter lib.isString (builtins.split between text);
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    makeBinPath = packages: lib.concatMapStringsSep ":" (package: "${package}/bin") packages;
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.name}";
    getExe' = package: name: "${package}/bin/${name}";
    escapeShellArg = text: "'${lib.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    versions.major = version: lib.head (lib.splitString "\\." version);
    licenses.mit = "MIT";
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    throwIf =
      condition: message: value:
      if condition then throw message else value;

    # Paths, each with all that is below it; what leads to them is kept, too.
    fileset = {
      unions = lib.id;
      toSource =
        { root, fileset }:
        let
          wanted = map toString fileset;
          inside = path: tree: path == tree || lib.hasPrefix "${tree}/" path;
        in
        {
          outPath = builtins.path {
            name = "source";
            path = root;
            filter = path: _: lib.any (tree: inside path tree || inside tree path) wanted;
          };
        };
    };
  }
  // import ./modules.nix { inherit lib; };
in
lib
