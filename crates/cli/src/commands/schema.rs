//! `hopcast schema`: the JSON Schema of the file. Editors (Taplo, Even Better TOML) complete and check with it.

use crate::output::Output;

pub(crate) fn run(out: &Output) -> anyhow::Result<()> {
    let schema = hopcast_topology::schema();
    if out.is_json() {
        return out.result(&schema);
    }
    out.line(serde_json::to_string_pretty(&schema)?);
    Ok(())
}
