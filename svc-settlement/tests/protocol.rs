//! A model of the cross-chain exchange on two of our contracts, walked through completely: every order of blocks, delays, outages, one reorg,
//! and whatever a dishonest counterparty may do.
//!
//! Alice locks an asset on the left chain, Bob one on the right chain, under the hash of a secret that Alice knows. She shows it on the right
//! chain and gets Bob's asset; Bob takes it to the left chain and gets hers. The left cutoff comes later by `gap`, so that he has time.
//!
//! Time goes in steps: each makes a block on every chain that is up. What an honest party has to send is in a block at the latest `DELAY`
//! blocks after it could be sent, whatever happens to its process meanwhile: that is the assumption that remains.
#![allow(clippy::unwrap_used, missing_docs)]

use stateright::{Checker, Model, Property};

/// Blocks until what an honest party sends is in one.
const DELAY: u8 = 2;
/// Steps that must be left before the right cutoff when Alice shows the secret: that she is in a block by then, also after a reorg.
const MARGIN: u8 = 2 * DELAY + 1;
/// The right cutoff.
const CUTOFF: u8 = 8;

const LEFT: usize = 0;
const RIGHT: usize = 1;
const ALICE: usize = 0;
const BOB: usize = 1;

/// What is walked through.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    alice_honest: bool,
    bob_honest: bool,
    /// Steps between the cutoffs.
    gap: u8,
    /// Blocks between the steps of a reclaim.
    reclaim_delay: u8,
    /// Steps that each chain may be down, in all.
    outage: [u8; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Nothing is locked.
    Empty,
    /// The sender's asset is locked.
    Locked,
    /// The secret is out: the asset is its receiver's.
    Committed,
    /// The asset is its sender's again.
    Returned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Chain {
    phase: Phase,
    /// Blocks since the way back was started.
    started: Option<u8>,
    /// Blocks that each honest party has had something to send.
    waiting: [u8; 2],
    down: bool,
    /// Steps that it may still be down.
    outage: u8,
    /// The secret came out in the last block.
    fresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    time: u8,
    chains: [Chain; 2],
    /// The secret is known: an honest Alice has sent it, which may leak it before it is in a block, or it was in one.
    public: bool,
    reorg_left: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Call {
    Lock,
    Reveal,
    StartReclaim,
    Reclaim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    /// A block on every chain that is up, in which honest parties' transactions are that are due.
    Step,
    /// A party's transaction before the next block.
    Send(usize, Call),
    /// An honest Alice sends her secret on its way. A dishonest one shows it in a block, before anybody else can see it.
    Broadcast,
    Halt(usize),
    Resume(usize),
    /// The last block goes, and the secret with it.
    Reorg(usize),
}

// === impl Chain ===

impl Chain {
    /// Whether the contract takes a call at a time.
    fn takes(&self, call: Call, time: u8, cutoff: u8, reclaim_delay: u8) -> bool {
        !self.down
            && match call {
                Call::Lock => self.phase == Phase::Empty && time < cutoff,
                // Also after the cutoff, while nothing went back.
                Call::Reveal => self.phase == Phase::Locked,
                Call::StartReclaim => self.phase == Phase::Locked && time >= cutoff && self.started.is_none(),
                Call::Reclaim => {
                    self.phase == Phase::Locked && self.started.is_some_and(|blocks| blocks >= reclaim_delay)
                }
            }
    }

    fn take(&mut self, call: Call) {
        match call {
            Call::Lock => self.phase = Phase::Locked,
            Call::Reveal => (self.phase, self.fresh) = (Phase::Committed, true),
            Call::StartReclaim => self.started = Some(0),
            Call::Reclaim => self.phase = Phase::Returned,
        }
    }
}

// === impl Exchange ===

impl Exchange {
    fn cutoff(&self, chain: usize) -> u8 {
        if chain == LEFT { CUTOFF + self.gap } else { CUTOFF }
    }

    /// By then everything that can be done was done.
    fn end(&self) -> u8 {
        self.cutoff(LEFT) + self.outage[LEFT] + self.outage[RIGHT] + self.reclaim_delay + 3 * DELAY + 2
    }

    fn takes(&self, world: &World, chain: usize, call: Call) -> bool {
        world.chains[chain].takes(call, world.time, self.cutoff(chain), self.reclaim_delay)
    }

    /// What an honest Alice has to do on a chain.
    fn alice(&self, world: &World, chain: usize) -> Option<Call> {
        let [left, right] = &world.chains;
        let lock = (left.phase == Phase::Empty && world.time + MARGIN < CUTOFF).then_some(Call::Lock);
        // Once the secret is on its way it is sent until it is in a block.
        let reveal = (right.phase == Phase::Locked && world.public).then_some(Call::Reveal);
        if chain == LEFT { lock.or_else(|| self.way_back(world, LEFT)) } else { reveal }
    }

    /// What an honest Bob has to do on a chain.
    fn bob(&self, world: &World, chain: usize) -> Option<Call> {
        let [left, right] = &world.chains;
        let wanted = left.phase == Phase::Locked && left.started.is_none();
        let lock = (right.phase == Phase::Empty && wanted).then_some(Call::Lock);
        let reveal = (left.phase == Phase::Locked && world.public).then_some(Call::Reveal);
        if chain == LEFT { reveal } else { lock.or_else(|| self.way_back(world, RIGHT)) }
    }

    fn way_back(&self, world: &World, chain: usize) -> Option<Call> {
        [Call::StartReclaim, Call::Reclaim].into_iter().find(|call| self.takes(world, chain, *call))
    }

    /// What an honest party has to send on a chain, and the contract takes.
    fn due(&self, world: &World, party: usize, chain: usize) -> Option<Call> {
        let call = match party {
            ALICE => self.alice(world, chain).filter(|_| self.alice_honest),
            _ => self.bob(world, chain).filter(|_| self.bob_honest),
        };
        call.filter(|call| self.takes(world, chain, *call))
    }

    /// Whether an honest Alice shows the secret now: both are locked, and there is time.
    fn may_broadcast(&self, world: &World) -> bool {
        let locked = world.chains.iter().all(|chain| chain.phase == Phase::Locked && chain.started.is_none());
        self.alice_honest && locked && !world.public && world.time + MARGIN <= CUTOFF
    }

    /// Whether a dishonest party may send a call.
    fn mischief(&self, world: &World, chain: usize, call: Call) -> bool {
        let (alice, bob) = (!self.alice_honest, !self.bob_honest);
        match call {
            Call::Lock if chain == LEFT => alice,
            Call::Lock => bob,
            Call::Reveal => alice || (bob && world.public),
            Call::StartReclaim | Call::Reclaim => alice || bob,
        }
    }

    /// An honest party has lost: its asset is the other's, and what it was to get is the other's again.
    fn has_lost(&self, world: &World) -> bool {
        let [left, right] = [world.chains[LEFT].phase, world.chains[RIGHT].phase];
        let alice = left == Phase::Committed && right == Phase::Returned;
        let bob = right == Phase::Committed && left == Phase::Returned;
        (self.alice_honest && alice) || (self.bob_honest && bob)
    }

    /// What honest parties locked is theirs again, or the other's.
    fn is_settled(&self, world: &World) -> bool {
        let locked = |chain: usize| world.chains[chain].phase == Phase::Locked;
        !((self.alice_honest && locked(LEFT)) || (self.bob_honest && locked(RIGHT)))
    }

    fn take(&self, world: &mut World, chain: usize, call: Call) {
        for party in [ALICE, BOB] {
            // What comes next is something new to send.
            if self.due(world, party, chain) == Some(call) {
                world.chains[chain].waiting[party] = 0;
            }
        }
        world.chains[chain].take(call);
        world.public |= call == Call::Reveal;
    }

    fn step(&self, world: &mut World) {
        world.time += 1;
        for chain in [LEFT, RIGHT] {
            if world.chains[chain].down {
                world.chains[chain].outage -= 1;
                continue;
            }
            world.chains[chain].fresh = false;
            for party in [ALICE, BOB] {
                // Who has waited long enough is in this block.
                let late = world.chains[chain].waiting[party] + 1 >= DELAY;
                if let Some(call) = self.due(world, party, chain).filter(|_| late) {
                    self.take(world, chain, call);
                }
            }
            for party in [ALICE, BOB] {
                let waits = self.due(world, party, chain).is_some();
                let waiting = &mut world.chains[chain].waiting[party];
                *waiting = if waits { *waiting + 1 } else { 0 };
            }
            let started = &mut world.chains[chain].started;
            *started = started.map(|blocks| (blocks + 1).min(self.reclaim_delay));
        }
    }
}

impl Model for Exchange {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let chain =
            |outage| Chain { phase: Phase::Empty, started: None, waiting: [0; 2], down: false, outage, fresh: false };
        vec![World { time: 0, chains: self.outage.map(chain), public: false, reorg_left: true }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.time >= self.end() {
            return;
        }
        // A chain that has been down as long as it may comes up first.
        if world.chains.iter().all(|chain| !chain.down || chain.outage > 0) {
            actions.push(Action::Step);
        }
        if self.may_broadcast(world) {
            actions.push(Action::Broadcast);
        }
        for chain in [LEFT, RIGHT] {
            let state = &world.chains[chain];
            for call in [Call::Lock, Call::Reveal, Call::StartReclaim, Call::Reclaim] {
                let due = [ALICE, BOB].iter().any(|party| self.due(world, *party, chain) == Some(call));
                let sent = due || self.mischief(world, chain, call);
                if sent && self.takes(world, chain, call) {
                    actions.push(Action::Send(chain, call));
                }
            }
            if state.down {
                actions.push(Action::Resume(chain));
            } else if state.outage > 0 {
                actions.push(Action::Halt(chain));
            }
            if state.fresh && world.reorg_left && !state.down {
                actions.push(Action::Reorg(chain));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Step => self.step(&mut world),
            Action::Send(chain, call) => self.take(&mut world, chain, call),
            Action::Broadcast => world.public = true,
            Action::Halt(chain) => world.chains[chain].down = true,
            Action::Resume(chain) => world.chains[chain].down = false,
            Action::Reorg(chain) => {
                world.reorg_left = false;
                let state = &mut world.chains[chain];
                (state.phase, state.fresh, state.waiting) = (Phase::Locked, false, [0; 2]);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("no honest party loses", |model, world| !model.has_lost(world)),
            Property::<Self>::always("what honest parties locked comes back or is exchanged", |model, world| {
                world.time < model.end() || model.is_settled(world)
            }),
            Property::<Self>::sometimes("the exchange comes about", |_, world| {
                world.chains.iter().all(|chain| chain.phase == Phase::Committed)
            }),
            Property::<Self>::sometimes("everything goes back", |_, world| {
                world.chains.iter().all(|chain| chain.phase == Phase::Returned)
            }),
        ]
    }
}

const SAFE: &str = "no honest party loses";

fn honest() -> Exchange {
    Exchange { alice_honest: true, bob_honest: true, gap: 6, reclaim_delay: 2 * DELAY + 2, outage: [0, 0] }
}

/// Whether somebody honest can lose.
fn can_be_lost(exchange: Exchange) -> bool {
    exchange.checker().spawn_bfs().join().discovery(SAFE).is_some()
}

#[test]
fn honest_parties_exchange_or_have_everything_back_whatever_chain_is_down() {
    for outage in [[0, 0], [9, 0], [0, 4], [4, 4]] {
        let checked = Exchange { outage, ..honest() }.checker().spawn_bfs().join();
        checked.assert_properties();
    }
}

#[test]
fn bob_cannot_take_alice_s_asset_for_nothing_however_long_a_chain_is_down() {
    for outage in [[0, 0], [9, 0], [0, 9], [4, 4]] {
        let checked = Exchange { bob_honest: false, outage, ..honest() }.checker().spawn_bfs().join();
        checked.assert_properties();
    }
}

#[test]
fn alice_cannot_keep_her_asset_and_take_bob_s_while_the_chain_of_the_secret_is_up_in_time() {
    for outage in [[0, 0], [9, 0], [3, 0]] {
        let checked = Exchange { alice_honest: false, outage, ..honest() }.checker().spawn_bfs().join();
        checked.assert_properties();
    }
}

/// The limit of every exchange by hash locks: the chain on which the secret is shown first must not be down for longer than the cutoffs
/// lie apart, or its sender cannot take his asset back before the other side's went back.
#[test]
fn an_outage_of_the_chain_of_the_secret_beyond_the_gap_is_the_limit() {
    let down = |outage, gap| Exchange { alice_honest: false, outage: [0, outage], gap, ..honest() };
    assert!(can_be_lost(down(9, 1)), "the cutoffs are too near for such an outage");
    assert!(!can_be_lost(down(4, 9)), "a gap for an outage of that length");
}

/// What the two steps are for: with one, an outage of the chain on which the secret is carried to costs Bob his asset.
#[test]
fn a_reclaim_in_one_step_would_make_an_outage_of_the_other_chain_costly() {
    let down = |reclaim_delay| Exchange { alice_honest: false, reclaim_delay, outage: [9, 0], ..honest() };
    assert!(can_be_lost(down(0)));
    assert!(!can_be_lost(down(2 * DELAY + 2)));
}
