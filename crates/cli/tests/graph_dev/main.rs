mod graph;
use graph::*;
#[test]
fn dev() {
    let Ok(plan) = std::env::var("PLAN") else { return };
    let text = std::fs::read_to_string(plan).unwrap(); let plan = match hopcast_topology::load(hopcast_topology::Source::new("t", &text), &hopcast_topology::Env::empty()) { Ok(l) => l.plan, Err(e) => panic!("{e}") };
    let name = |s: &str| hopcast_protocol::PeerName::new(s).unwrap();
    let mut overlay = Overlay::default();
    if let Ok(path) = std::env::var("WAY") { overlay.path = path.split(',').map(name).collect(); }
    if let Ok(dead) = std::env::var("DEAD") {
        overlay.connected = Some(plan.peers.iter().map(|p| p.name.clone()).filter(|n| !dead.split(',').any(|d| d == n.as_str())).collect());
    }
    if let Ok(down) = std::env::var("DOWNL") {
        for l in down.split(',') { let (a, b) = l.split_once(':').unwrap(); overlay.down.insert((name(a), name(b))); }
    }
    let out = std::env::var("OUT").unwrap();
    let text = dot(&plan, &overlay);
    std::fs::write(format!("{out}.dot"), &text).unwrap();
    std::fs::write(format!("{out}.png"), render(&text, Format::Png).unwrap()).unwrap();
    std::fs::write(format!("{out}.svg"), render(&text, Format::Svg).unwrap()).unwrap();
}
