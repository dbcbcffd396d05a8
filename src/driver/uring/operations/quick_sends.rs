//! Sends that do not wait: they complete only if something is left to do.
//!
//! Such a send is over when the enter that submitted it returns. If no completion has come by then,
//! it has sent everything. So they need no slots of their own: those of one enter stand in a row
//! until it is known of all that they are over.

use crate::buffer::Gather;
use crate::driver::notices::Notices;
use crate::driver::operation::{LOST_COMPLETION, Outcome, Owner, QuickSend};
use crate::driver::uring::files::Files;
use crate::driver::uring::requests;
use crate::driver::uring::ring::{Completion, Ring};
use crate::driver::uring::token::{Kind, Stamp, Token};
use crate::features::KernelFeatures as Features;
use std::io;
use std::rc::Rc;

/// More than this many bytes are not sent silently, one by one or together: until the loop hears of
/// something else, they would take up memory.
pub(in crate::driver::uring) const LONGEST: usize = 256 * 1024;
/// What they take.
const NEEDED: Features = Features::CQE_SKIP.union(Features::SILENT_SEND);

pub(in crate::driver::uring) struct QuickSends {
    /// The row, and behind it places for more.
    places: Vec<Place>,
    /// How many stand in the row.
    count: usize,
    /// Names those that stand in the row now.
    stamp: Stamp,
    /// Somebody waits for one of them to be over.
    awaited: bool,
    /// Of all of them.
    bytes: usize,
    longest: usize,
}

/// A place in the row. It is filled where it is, as these are too large to be moved for nothing.
#[derive(Default)]
struct Place {
    /// There is one if somebody stands here.
    owner: Option<Rc<dyn Owner>>,
    data: Gather,
    length: u32,
    /// What the kernel has said, if it has not sent everything.
    result: Option<i32>,
}

impl QuickSends {
    pub(super) fn new(features: Features) -> QuickSends {
        let longest = if features.contains(NEEDED) { LONGEST } else { 0 };
        let stamp = Stamp::first(Kind::QuickSend);
        QuickSends { places: Vec::new(), count: 0, stamp, awaited: false, bytes: 0, longest }
    }

    pub(in crate::driver::uring) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn are_awaited(&self) -> bool {
        self.awaited
    }

    pub(super) fn await_all(&mut self) {
        self.awaited = !self.is_empty();
    }

    #[inline]
    pub(in crate::driver::uring) fn push(
        &mut self,
        send: QuickSend,
        data: Gather,
        owner: Rc<dyn Owner>,
        files: &mut Files,
        ring: &mut Ring,
    ) {
        debug_assert!(send.length as usize <= self.longest);
        self.bytes += send.length as usize;
        self.awaited |= send.awaited || self.bytes > LONGEST;
        let registered = files.holds(send.stream, ring);
        // There are fewer than descriptors.
        let token = Token::new(self.stamp, self.count as u32);
        if self.count == self.places.len() {
            self.places.push(Place::default());
        }
        let place = &mut self.places[self.count];
        self.count += 1;
        place.owner = Some(owner);
        place.data = data;
        place.length = send.length;
        let request = requests::quick_send(send, place.data.rest(0), registered);
        let request = request.user_data(token.bits());
        // SAFETY: the data that the request refers to is on the heap or static, and owned by what
        // stands in the row until `complete_all` knows that the request is done; `leak` keeps what is not.
        unsafe { ring.push(request) };
    }

    /// Takes in the completion of one that has not sent everything. False if it is none's.
    #[cold]
    pub(in crate::driver::uring) fn complete(&mut self, completion: Completion) -> bool {
        if completion.token.stamp() != self.stamp {
            return false;
        }
        let place = self.row().get_mut(completion.token.slot() as usize);
        let known = place.map(|place| place.result = Some(completion.result));
        known.is_some()
    }

    fn row(&mut self) -> &mut [Place] {
        &mut self.places[..self.count]
    }

    /// All of them are over.
    pub(super) fn complete_all(&mut self, notices: &mut Notices) {
        self.row().iter_mut().for_each(|place| place.complete(notices));
        self.count = 0;
        self.stamp = self.stamp.next();
        self.awaited = false;
        self.bytes = 0;
    }

    /// All of them are over, but completions have been dropped: without one, a send may have sent
    /// everything or nothing.
    #[cold]
    pub(super) fn complete_all_after_loss(&mut self, notices: &mut Notices) {
        for place in self.row() {
            place.result.get_or_insert(-LOST_COMPLETION);
        }
        self.complete_all(notices);
    }

    /// Keeps for ever what the kernel may still read, and tells the owners that it is over.
    pub(super) fn leak(&mut self, notices: &mut Notices) {
        for place in self.row() {
            if place.result.is_none() {
                // The owner is told that nothing was sent.
                std::mem::forget(std::mem::take(&mut place.data));
                place.result = Some(-libc::ECANCELED);
            }
            place.over(notices);
        }
        self.count = 0;
    }
}

impl Place {
    /// Leaves the place, and has the owner told if there is anything to tell.
    #[inline]
    fn complete(&mut self, notices: &mut Notices) {
        let owner = self.owner.as_ref();
        if self.result.is_none() && owner.is_some_and(|owner| owner.sent_all(self.length as usize))
        {
            let shared = owner.is_some_and(|owner| Rc::strong_count(owner) > 1);
            debug_assert!(shared, "its descriptor is closed elsewhere");
            self.data = Gather::default();
            self.owner = None;
        } else {
            self.over(notices);
        }
    }

    #[cold]
    fn over(&mut self, notices: &mut Notices) {
        let Place { owner, data, length, result } = std::mem::take(self);
        let outcome = match result {
            None => Outcome::Sent { data, sent: length as usize, result: Ok(()) },
            Some(result) => sent_in_part(data, result),
        };
        if let Some(owner) = owner {
            notices.push_outcome(owner, outcome);
        }
    }
}

#[cold]
fn sent_in_part(data: Gather, result: i32) -> Outcome {
    match -result {
        libc::EAGAIN | libc::EINTR => Outcome::SentInPart { data, sent: 0 },
        ..=0 => Outcome::SentInPart { data, sent: result as usize },
        errno => {
            let result = Err(io::Error::from_raw_os_error(errno));
            Outcome::Sent { data, sent: 0, result }
        }
    }
}
