//! Which holders a fetch no longer asks, and when it is certain that nobody has the content.
//!
//! Pure. Whoever is left out gets another chance when nobody else is left: a holder may be blamed for what a relay did.

use hopcast_protocol::PeerName;

/// Failures over one holder after which another one is tried.
const STRIKES: u32 = 2;
/// Gateways whose word that a song does not exist is taken: each has looked into the origin, too, and asking all of them
/// would hold up whoever asks.
const DENIALS: usize = 2;

/// What a fetch has learnt about holders.
#[derive(Debug, Default)]
pub struct Search {
    not_held: Vec<PeerName>,
    unable: Vec<PeerName>,
    liars: Vec<PeerName>,
    last: Option<(PeerName, u32)>,
    missing_here: bool,
}

impl Search {
    /// Whom not to ask; the liars first, since the server takes a bounded list.
    pub fn exclude(&self) -> Vec<PeerName> {
        self.liars.iter().chain(&self.not_held).chain(&self.unable).cloned().collect()
    }

    /// This peer's own database does not have it.
    pub fn missing_here(&mut self) {
        self.missing_here = true;
    }

    /// The holder does not have it.
    pub fn not_held(&mut self, holder: &PeerName) {
        add(&mut self.not_held, holder);
    }

    /// So many gateways do not know a song that it does not exist.
    pub fn denied(&self) -> bool {
        self.not_held.len() + usize::from(self.missing_here) >= DENIALS
    }

    /// The holder itself cannot serve now.
    pub fn unable(&mut self, holder: &PeerName) {
        add(&mut self.unable, holder);
    }

    /// What came was not what it should be. Relay or holder: from here nobody can tell, but another holder means
    /// another way as well.
    pub fn lied(&mut self, holder: &PeerName) {
        add(&mut self.liars, holder);
    }

    /// Something on the way failed. The hop that saw it has reported it, so the next way avoids it; where the same
    /// holder fails again, another one is tried.
    pub fn failed(&mut self, holder: &PeerName) {
        let strikes = match &self.last {
            Some((last, strikes)) if last == holder => strikes + 1,
            _ => 1,
        };
        self.last = Some((holder.clone(), strikes));
        if strikes >= STRIKES {
            self.last = None;
            self.unable(holder);
        }
    }

    /// The server knows no holder but the excluded. True: whoever could have it said no, so it does not exist. Else
    /// all may be asked again, the liars too: it may have been a relay on the way to them.
    pub fn nobody_left(&mut self) -> bool {
        let said_no = !self.not_held.is_empty() || self.missing_here;
        if said_no && self.unable.is_empty() && self.liars.is_empty() {
            return true;
        }
        *self = Self { missing_here: self.missing_here, ..Self::default() };
        false
    }
}

fn add(list: &mut Vec<PeerName>, peer: &PeerName) {
    if !list.contains(peer) {
        list.push(peer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> PeerName {
        PeerName::new(format!("peer-{number}")).unwrap()
    }

    #[test]
    fn it_does_not_exist_only_if_all_said_so() {
        let mut search = Search::default();
        assert!(!search.nobody_left(), "nobody said anything: perhaps no gateway is connected");
        search.not_held(&peer(1));
        search.not_held(&peer(1));
        assert_eq!(search.exclude(), [peer(1)]);
        assert!(search.nobody_left());
        search.unable(&peer(2));
        assert!(!search.nobody_left());
        assert!(search.exclude().is_empty(), "everybody gets another chance");
    }

    #[test]
    fn liars_come_first_and_prove_nothing() {
        let mut search = Search::default();
        search.not_held(&peer(1));
        search.lied(&peer(2));
        assert_eq!(search.exclude(), [peer(2), peer(1)]);
        assert!(!search.nobody_left(), "a lie is no proof that it does not exist");
        assert!(search.exclude().is_empty());
    }

    #[test]
    fn two_failures_in_a_row_turn_to_another_holder() {
        let mut search = Search::default();
        search.failed(&peer(1));
        search.failed(&peer(2));
        search.failed(&peer(1));
        assert!(search.exclude().is_empty());
        search.failed(&peer(1));
        assert_eq!(search.exclude(), [peer(1)]);
    }

    #[test]
    fn two_gateways_word_is_enough() {
        let mut search = Search::default();
        search.not_held(&peer(1));
        search.not_held(&peer(1));
        assert!(!search.denied());
        search.missing_here();
        assert!(search.denied());
    }
}
