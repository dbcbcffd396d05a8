//! Connections and deadlines that are made by hand.

use super::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

/// The addresses that Tornado's tests have: two of each family.
const A1: &str = "10.0.0.1:80";
const A2: &str = "10.0.0.2:80";
const B1: &str = "[fc00::1]:80";
const B2: &str = "[fc00::2]:80";

type Answer = Result<(), &'static str>;

/// An attempt, and its answer if there is one.
type Line = (SocketAddr, Option<Answer>);

/// What has been dialled and not been given up.
#[derive(Clone, Default)]
struct Network {
    lines: Rc<RefCell<Vec<Line>>>,
    /// All that was ever dialled.
    log: Rc<RefCell<Vec<SocketAddr>>>,
    /// Fails at once.
    unreachable: Rc<RefCell<Vec<SocketAddr>>>,
}

struct FakeAttempt {
    network: Network,
    address: SocketAddr,
}

impl Dialer for Network {
    type Connection = SocketAddr;
    type Attempt = FakeAttempt;

    fn dial(&self, address: SocketAddr) -> FakeAttempt {
        self.log.borrow_mut().push(address);
        let fails = self.unreachable.borrow().contains(&address);
        self.lines.borrow_mut().push((address, fails.then_some(Err("unreachable"))));
        FakeAttempt { network: self.clone(), address }
    }
}

impl Future for FakeAttempt {
    type Output = io::Result<SocketAddr>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let lines = self.network.lines.borrow();
        let (_, answer) = lines.iter().find(|(address, _)| *address == self.address).unwrap();
        match answer {
            None => Poll::Pending,
            Some(Ok(())) => Poll::Ready(Ok(self.address)),
            Some(Err(text)) => Poll::Ready(Err(io::Error::other(*text))),
        }
    }
}

impl Drop for FakeAttempt {
    fn drop(&mut self) {
        self.network.lines.borrow_mut().retain(|(address, _)| *address != self.address);
    }
}

#[derive(Clone, Default)]
struct HeadStart(Rc<RefCell<bool>>);

impl Future for HeadStart {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if *self.0.borrow() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A race, and all that can happen to it.
struct Track {
    network: Network,
    head_start: HeadStart,
    race: Option<Race<Network, HeadStart>>,
    result: Option<io::Result<SocketAddr>>,
}

fn parse(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

impl Track {
    fn start(addresses: &[&str]) -> Track {
        Track::start_on(Network::default(), addresses)
    }

    fn start_on(network: Network, addresses: &[&str]) -> Track {
        let head_start = HeadStart::default();
        let addresses: Vec<_> = addresses.iter().map(|address| parse(address)).collect();
        let race = Race::new(&addresses, network.clone(), head_start.clone());
        let mut track = Track { network, head_start, race: Some(race), result: None };
        track.poll();
        track
    }

    fn poll(&mut self) {
        let Some(race) = &mut self.race else { return };
        let polled = Pin::new(race).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(result) = polled {
            self.result = Some(result);
            self.race = None;
        }
    }

    fn answer(&mut self, address: &str, answer: Answer) {
        let address = parse(address);
        let mut lines = self.network.lines.borrow_mut();
        let line = lines.iter_mut().find(|(dialled, _)| *dialled == address);
        line.expect("nobody dials that").1 = Some(answer);
        drop(lines);
        self.poll();
    }

    fn succeed(&mut self, address: &str) {
        self.answer(address, Ok(()));
    }

    fn fail(&mut self, address: &str, text: &'static str) {
        self.answer(address, Err(text));
    }

    fn end_head_start(&mut self) {
        *self.head_start.0.borrow_mut() = true;
        self.poll();
    }

    /// Given up from outside: the time for all of it is over.
    fn give_up(&mut self) {
        self.race = None;
    }

    #[track_caller]
    fn assert_dialling(&self, addresses: &[&str]) {
        assert!(self.result.is_none(), "{:?}", self.result);
        let lines: Vec<_> = self.network.lines.borrow().iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, addresses.iter().map(|address| parse(address)).collect::<Vec<_>>());
    }

    #[track_caller]
    fn assert_won(&self, address: &str) {
        assert_eq!(self.result.as_ref().unwrap().as_ref().unwrap(), &parse(address));
        self.assert_quiet();
    }

    #[track_caller]
    fn assert_lost(&self, text: &str) {
        assert_eq!(self.result.as_ref().unwrap().as_ref().unwrap_err().to_string(), text);
        self.assert_quiet();
    }

    #[track_caller]
    fn assert_quiet(&self) {
        assert!(self.network.lines.borrow().is_empty(), "an attempt was not given up");
    }

    fn dialled(&self) -> Vec<SocketAddr> {
        self.network.log.borrow().clone()
    }
}

#[test]
fn the_first_address_names_the_first_family() {
    let mut track = Track::start(&[B1, A1, B2, A2]);
    track.assert_dialling(&[B1]);
    track.end_head_start();
    track.assert_dialling(&[B1, A1]);
    track.fail(B1, "b1");
    track.assert_dialling(&[A1, B2]);
}

#[test]
fn an_immediate_success_dials_nobody_else() {
    let mut track = Track::start(&[A1, B1]);
    track.assert_dialling(&[A1]);
    track.succeed(A1);
    track.assert_won(A1);
    assert_eq!(track.dialled(), [parse(A1)]);
}

#[test]
fn one_address_that_fails_at_once_is_the_end() {
    let network = Network::default();
    network.unreachable.borrow_mut().push(parse(A1));
    Track::start_on(network, &[A1]).assert_lost("unreachable");
}

#[test]
fn one_address_that_fails_later_is_the_end() {
    let mut track = Track::start(&[A1]);
    track.assert_dialling(&[A1]);
    track.fail(A1, "a1");
    track.assert_lost("a1");
}

#[test]
fn the_second_of_a_family_is_tried_when_the_first_has_failed() {
    let mut track = Track::start(&[A1, A2]);
    track.assert_dialling(&[A1]);
    track.fail(A1, "a1");
    track.assert_dialling(&[A2]);
    track.succeed(A2);
    track.assert_won(A2);
}

#[test]
fn when_all_of_a_family_have_failed_the_last_error_is_told() {
    let mut track = Track::start(&[A1, A2]);
    track.fail(A1, "a1");
    track.fail(A2, "a2");
    track.assert_lost("a2");
}

#[test]
fn the_end_of_the_head_start_changes_nothing_for_one_family() {
    let mut track = Track::start(&[A1, A2]);
    track.end_head_start();
    track.assert_dialling(&[A1]);
    track.fail(A1, "a1");
    track.end_head_start();
    track.assert_dialling(&[A2]);
    track.succeed(A2);
    track.assert_won(A2);
}

#[test]
fn a_failure_starts_the_second_family_without_waiting() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.assert_dialling(&[A1]);
    track.fail(A1, "a1");
    track.assert_dialling(&[A2, B1]);
    track.succeed(B1);
    track.assert_won(B1);
}

#[test]
fn a_failure_within_the_second_family_does_not_disturb_the_first() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.fail(A1, "a1");
    track.fail(B1, "b1");
    track.assert_dialling(&[A2, B2]);
    track.succeed(A2);
    track.assert_won(A2);
}

#[test]
fn the_end_of_the_head_start_starts_the_second_family() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.assert_dialling(&[A1]);
    track.end_head_start();
    track.assert_dialling(&[A1, B1]);
    track.succeed(B1);
    track.assert_won(B1);
}

#[test]
fn the_first_may_still_win_after_its_head_start() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.end_head_start();
    track.succeed(A1);
    track.assert_won(A1);
}

#[test]
fn the_second_family_starts_once() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.end_head_start();
    track.fail(A1, "a1");
    track.end_head_start();
    track.assert_dialling(&[B1, A2]);
}

#[test]
fn after_a_failure_the_head_start_is_over_for_good() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.fail(A1, "a1");
    track.end_head_start();
    track.assert_dialling(&[A2, B1]);
}

#[test]
fn when_both_families_have_failed_the_last_error_is_told() {
    let mut track = Track::start(&[A1, A2, B1, B2]);
    track.assert_dialling(&[A1]);
    track.end_head_start();
    track.assert_dialling(&[A1, B1]);
    track.fail(B1, "b1");
    track.assert_dialling(&[A1, B2]);
    track.fail(A1, "a1");
    track.assert_dialling(&[B2, A2]);
    track.fail(A2, "a2");
    track.assert_dialling(&[B2]);
    track.fail(B2, "b2");
    track.assert_lost("b2");
}

#[test]
fn one_family_that_is_through_waits_for_the_other() {
    let mut track = Track::start(&[A1, B1, B2]);
    track.fail(A1, "a1");
    track.assert_dialling(&[B1]);
    track.fail(B1, "b1");
    track.succeed(B2);
    track.assert_won(B2);
}

#[test]
fn addresses_that_fail_at_once_are_passed_over_in_one_go() {
    let network = Network::default();
    network.unreachable.borrow_mut().extend([A1, A2, B1].map(parse));
    let mut track = Track::start_on(network, &[A1, A2, B1, B2]);
    track.assert_dialling(&[B2]);
    track.succeed(B2);
    track.assert_won(B2);
    let all = Network::default();
    all.unreachable.borrow_mut().extend([A1, B1].map(parse));
    Track::start_on(all, &[A1, B1]).assert_lost("unreachable");
}

#[test]
fn of_two_that_succeed_at_the_same_time_one_wins_and_the_other_is_given_up() {
    let mut track = Track::start(&[A1, B1]);
    track.end_head_start();
    for (_, answer) in &mut *track.network.lines.borrow_mut() {
        *answer = Some(Ok(()));
    }
    track.poll();
    track.assert_won(A1);
}

#[test]
fn a_race_that_is_given_up_gives_up_all_attempts() {
    let mut early = Track::start(&[A1, A2, B1]);
    early.give_up();
    early.assert_quiet();
    let mut late = Track::start(&[A1, A2, B1]);
    late.end_head_start();
    late.assert_dialling(&[A1, B1]);
    late.give_up();
    late.assert_quiet();
    let mut second = Track::start(&[A1, A2]);
    second.fail(A1, "a1");
    second.give_up();
    second.assert_quiet();
    assert_eq!(second.dialled(), [A1, A2].map(parse));
}

#[test]
fn a_race_without_addresses_is_lost() {
    let track = Track::start(&[]);
    assert_eq!(track.result.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
}
