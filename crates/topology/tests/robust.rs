//! Whatever is in the file: an answer, never a panic.

use hopcast_topology::{Env, Source, init_text, load};
use proptest::prelude::*;

/// Loads, renders and serialises.
fn survive(text: &str, variables: &[(&str, &str)]) {
    let env: Env = variables.iter().copied().collect();
    let read = |_: &str, _: usize| Ok(text.to_owned());
    let report = match load(Source::new("topology.toml", text).with_graphs(&read), &env) {
        Ok(loaded) => {
            assert_eq!(loaded.warnings.errors(), 0);
            loaded.warnings
        }
        Err(report) => {
            assert!(report.errors() > 0);
            report
        }
    };
    let rendered = report.render(true, 80);
    assert_eq!(rendered.is_empty(), report.is_empty());
    serde_json::to_string(&report).unwrap();
}

/// Pieces of a topology file, right and wrong, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[peers]\n",
        "[[rooms]]\n",
        "[[links]]\n",
        "[[edges]]\n",
        "[[songs]]\n",
        "[rooms]\n",
        "[local]\n",
        "[docker]\n",
        "count = 7\n",
        "count = -3\n",
        "prefix = \"ä\"\n",
        "name = \"a\"\n",
        "name = \"peer-1\"\n",
        "network = \"n\"\n",
        "network = \"127.0.0.0/30\"\n",
        "subnet = \"10.0.0.0/8\"\n",
        "peers = [\"*\"]\n",
        "peers = [\"peer-1..peer-3\"]\n",
        "peers = [\"..\", \"peer-9..\", 1]\n",
        "between = [\"peer-1\", \"peer-2\"]\n",
        "remove = true\n",
        "latency = \"9999999999ms\"\n",
        "links = { shape = \"small-world\", k = 2, p = 0.5 }\n",
        "links = { shape = \"random-regular\", degree = 3 }\n",
        "links = { import = \"x.csv\" }\n",
        "links = { import = \"x.json\" }\n",
        "links = { shape = \"full\" }\n",
        "path = \"..\"\n",
        "\"",
        "[",
        "]",
        "=",
        "\n",
        "'''",
        "# é\n",
        "\u{0}",
        "a.b.c = { d = [[[",
        "\r",
    ]);
    prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

#[test]
fn sizes_near_the_end_of_64_bits() {
    let size = |key: &str| format!("{key} = \"17179869183GiB\"\n");
    let cache = size("cache").replace("83GiB", "82GiB");
    survive(&format!("[peers]\n{}{cache}{}", size("memory"), size("max_segment")), &[]);
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        survive(&text, &[]);
    }

    #[test]
    fn any_pieces(text in pieces()) {
        survive(&text, &[]);
    }

    #[test]
    fn any_cut_out_of_the_shipped_file(from in 0..init_text().len(), length in 0usize..200, put in "[\\[\\]\"=a1,\n]{0,3}") {
        let mut text = init_text().to_owned();
        let until = (from + length).min(text.len());
        text.replace_range(from..until, &put);
        survive(&text, &[]);
    }

    #[test]
    fn any_variables(count in any::<String>(), prefix in "[a-z.-]{0,4}", peers in "[a-z0-9,.* -]{0,20}") {
        survive(init_text(), &[("COUNT", &count), ("PREFIX", &prefix), ("EDGE1_PEERS", &peers), ("IMAGE", &peers)]);
        survive(init_text(), &[("COUNT", "90"), ("EDGE2_PEERS", &peers), ("SIGNAL_ADDR", &count)]);
    }
}
