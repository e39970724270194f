# A small module system: enough for modules that declare typed options and set others'.
{ lib }:
let
  show = lib.concatStringsSep ".";
  order = {
    force = 50;
    normal = 100;
    default = 1000;
    option = 1500;
  };

  # What a definition with mkIf, mkMerge and priorities around it comes to: a list of { priority; value; }.
  discharge =
    priority: value:
    if !(lib.isAttrs value) then
      [ { inherit priority value; } ]
    else if value._type or "" == "if" then
      lib.optionals value.condition (discharge priority value.content)
    else if value._type or "" == "merge" then
      lib.concatMap (discharge priority) value.contents
    else if value._type or "" == "override" then
      discharge value.priority value.content
    else
      [ { inherit priority value; } ];

  # The same for what is no option yet: conditions are pushed down, so that names are known before values are.
  push =
    definition:
    let
      inside = wrap: content: map (set: lib.mapAttrs (_: value: wrap value) set) (push content);
    in
    if definition._type or "" == "if" then
      inside (lib.mkIf definition.condition) definition.content
    else if definition._type or "" == "merge" then
      lib.concatMap push definition.contents
    else if definition._type or "" == "override" then
      inside (content: definition // { inherit content; }) definition.content
    else
      [ definition ];

  strongest =
    definitions:
    let
      best = lib.foldl' (least: each: lib.min least each.priority) 10000 definitions;
    in
    map (each: each.value) (lib.filter (each: each.priority == best) definitions);

  # A leaf's value.
  leaf =
    at: option: definitions:
    let
      found = strongest (
        lib.concatMap (discharge order.normal) definitions
        ++ lib.optional (option ? default) {
          priority = order.option;
          value = option.default;
        }
      );
      wrong = lib.filter (value: !option.type.check value) found;
      merged =
        if found == [ ] && option.type ? empty then
          option.type.empty
        else if found == [ ] then
          throw "The option `${show at}' was accessed but has no value defined. Try setting the option."
        else if wrong != [ ] then
          throw "A definition for option `${show at}' is not of type `${option.type.description}'."
        else
          option.type.merge at found;
    in
    (option.apply or lib.id) merged;

  tree =
    at: options: definitions:
    let
      sets = lib.concatMap push definitions;
      unknown = lib.filter (name: !(options ? ${name})) (lib.concatMap lib.attrNames sets);
      values = lib.mapAttrs (
        name: option:
        let
          here = map (set: set.${name}) (lib.filter (set: set ? ${name}) sets);
          path = at ++ [ name ];
        in
        if option._type or "" == "option" then leaf path option here else tree path option here
      ) options;
    in
    if unknown != [ ] then
      throw "The option `${show (at ++ [ (lib.head unknown) ])}' does not exist."
    else
      values;

  # Two trees of options side by side.
  join =
    a: b:
    a
    // lib.mapAttrs (
      name: value: if a ? ${name} && value._type or "" != "option" then join a.${name} value else value
    ) b;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      read =
        module:
        let
          opened = if lib.isPath module || lib.isString module then import module else module;
          called = if lib.isFunction opened then opened arguments else opened;
          structured = called ? options || called ? config;
          own = {
            options = called.options or { };
            config =
              if structured then
                called.config or { }
              else
                removeAttrs called [
                  "imports"
                  "key"
                ];
          };
          key = called.key or (if lib.isPath module then toString module else null);
        in
        [ (own // { inherit key; }) ] ++ lib.concatMap read (called.imports or [ ]);
      # A file that is imported twice counts once.
      once =
        list:
        (lib.foldl'
          (
            known: module:
            if module.key != null && lib.elem module.key known.keys then
              known
            else
              {
                keys = known.keys ++ [ module.key ];
                list = known.list ++ [ module ];
              }
          )
          {
            keys = [ ];
            list = [ ];
          }
          list
        ).list;
      all = once (lib.concatMap read modules);
      options = lib.foldl' join { } (map (module: module.options) all);
      config = tree prefix options (map (module: module.config) all);
      arguments = specialArgs // {
        inherit lib config options;
      };
    in
    {
      inherit config options;
    };

  simple = description: check: {
    inherit description check;
    merge =
      at: values:
      if lib.all (value: value == lib.head values) values then
        lib.head values
      else
        throw "The option `${show at}' has conflicting definition values.";
  };
  within =
    what: low: high:
    simple what (value: lib.isInt value && value >= low && value <= high);
in
{
  inherit evalModules;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkForce = lib.mkOverride order.force;
  mkDefault = lib.mkOverride order.default;
  mkOption = option: { type = lib.types.raw; } // option // { _type = "option"; };
  mkEnableOption =
    what:
    lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
  literalExpression = text: text;

  types = rec {
    raw = simple "anything" (_: true);
    anything = raw // {
      merge =
        at: values:
        if lib.length values > 1 && lib.all lib.isAttrs values then
          (attrsOf anything).merge at values
        else
          raw.merge at values;
    };
    bool = simple "boolean" lib.isBool;
    int = simple "signed integer" lib.isInt;
    port = within "16 bit unsigned integer; between 0 and 65535 (both inclusive)" 0 65535;
    ints = {
      unsigned = within "unsigned integer, meaning >=0" 0 9223372036854775807;
      positive = within "positive integer, meaning >0" 1 9223372036854775807;
    };
    str = simple "string" lib.isString;
    path = simple "path" (
      value: lib.isPath value || (lib.isString value && lib.hasPrefix "/" value) || value ? outPath
    );
    package = simple "package" (value: value.type or "" == "derivation");
    lines = str // {
      description = "strings concatenated with \"\\n\"";
      merge = _: lib.concatStringsSep "\n";
    };
    enum =
      values:
      simple "one of ${lib.concatMapStringsSep ", " toString values}" (value: lib.elem value values);
    nullOr = type: {
      description = "null or ${type.description}";
      check = value: value == null || type.check value;
      merge = at: values: if lib.all (value: value == null) values then null else type.merge at values;
    };
    either = a: b: {
      description = "${a.description} or ${b.description}";
      check = value: a.check value || b.check value;
      merge = at: values: if lib.all a.check values then a.merge at values else b.merge at values;
    };
    oneOf = list: lib.foldl' either (lib.head list) (lib.tail list);
    listOf = type: {
      description = "list of ${type.description}";
      check = lib.isList;
      empty = [ ];
      merge =
        at: values:
        lib.imap1 (n: value: leaf (at ++ [ "[definition ${toString n}]" ]) { inherit type; } [ value ]) (
          lib.concatLists values
        );
    };
    attrsOf = type: {
      description = "attribute set of ${type.description}";
      check = lib.isAttrs;
      empty = { };
      merge =
        at: values:
        let
          sets = lib.concatMap push values;
        in
        lib.genAttrs (lib.unique (lib.concatMap lib.attrNames sets)) (
          name:
          leaf (at ++ [ name ]) { inherit type; } (
            map (set: set.${name}) (lib.filter (set: set ? ${name}) sets)
          )
        );
    };
    submodule = module: {
      description = "submodule";
      check = value: lib.isAttrs value || lib.isFunction value;
      empty = { };
      merge =
        at: values:
        (evalModules {
          modules = [ module ] ++ values;
          specialArgs.name = lib.elemAt at (lib.length at - 1);
          prefix = at;
        }).config;
    };
  };
}
