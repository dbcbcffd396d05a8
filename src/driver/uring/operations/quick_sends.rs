//! Sends that do not wait: they complete only if something is left to do.
//!
//! Such a send is over when the enter that submitted it returns. If no completion has come by then,
//! it has sent everything. So they need no slots of their own: those of one enter stand in a row
//! until it is known of all that they are over.

use crate::buffer::Gather;
use crate::driver::operation::{Notice, Outcome, Owner, QuickSend, UNTOLD};
use crate::driver::uring::files::Files;
use crate::driver::uring::requests;
use crate::driver::uring::ring::{Completion, Ring};
use crate::driver::uring::token::{Kind, Stamp, Token};
use crate::features::KernelFeatures as Features;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// More than this many bytes are not sent silently, one by one or together: until the loop hears of
/// something else, they would take up memory.
const LONGEST: usize = 256 * 1024;
/// What they take.
const NEEDED: Features = Features::CQE_SKIP.union(Features::SILENT_SEND);

pub(in crate::driver::uring) struct QuickSends {
    sends: Vec<Sending>,
    /// Names those that stand in the row now.
    stamp: Stamp,
    /// Somebody waits for one of them to be over.
    awaited: bool,
    /// Of all of them.
    bytes: usize,
    longest: usize,
}

struct Sending {
    owner: Rc<dyn Owner>,
    data: Gather,
    length: u32,
    /// What the kernel has said, if it has not sent everything.
    result: Option<i32>,
}

impl QuickSends {
    pub(super) fn new(features: Features) -> QuickSends {
        let longest = if features.contains(NEEDED) { LONGEST } else { 0 };
        let stamp = Stamp::first(Kind::QuickSend);
        QuickSends { sends: Vec::new(), stamp, awaited: false, bytes: 0, longest }
    }

    pub(in crate::driver::uring) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    pub(super) fn are_awaited(&self) -> bool {
        self.awaited
    }

    pub(super) fn await_all(&mut self) {
        self.awaited = !self.sends.is_empty();
    }

    pub(in crate::driver::uring) fn push(
        &mut self,
        send: QuickSend,
        mut data: Gather,
        owner: Rc<dyn Owner>,
        files: &mut Files,
        ring: &mut Ring,
    ) {
        debug_assert!(send.length as usize <= self.longest);
        self.bytes += send.length as usize;
        self.awaited |= send.awaited || self.bytes > LONGEST;
        let registered = files.holds(send.stream, ring);
        // There are fewer than descriptors.
        let token = Token::new(self.stamp, self.sends.len() as u32);
        let request = requests::quick_send(send, data.rest(0), registered);
        let request = request.user_data(token.bits());
        self.sends.push(Sending { owner, data, length: send.length, result: None });
        // SAFETY: the data that the request refers to is on the heap or static, and owned by what
        // stands in the row until `settle` knows that the request is done; `leak` keeps what is not.
        unsafe { ring.push(request) };
    }

    /// Takes in the completion of one that has not sent everything. False if it is none's.
    #[cold]
    pub(in crate::driver::uring) fn complete(&mut self, completion: Completion) -> bool {
        if completion.token.stamp() != self.stamp {
            return false;
        }
        let sending = self.sends.get_mut(completion.token.slot() as usize);
        let known = sending.map(|sending| sending.result = Some(completion.result));
        known.is_some()
    }

    /// All of them are over.
    pub(super) fn settle(&mut self, notices: &mut VecDeque<Notice>) {
        for sending in self.sends.drain(..) {
            let Sending { owner, length, .. } = &sending;
            if sending.result.is_some() || !owner.is_sent(*length as usize) {
                notices.push_back(sending.over());
            } else {
                debug_assert!(Rc::strong_count(owner) > 1, "its descriptor is closed elsewhere");
            }
        }
        self.stamp = self.stamp.next();
        self.awaited = false;
        self.bytes = 0;
    }

    /// All of them are over, but completions have been dropped: without one, a send may have sent
    /// everything or nothing.
    #[cold]
    pub(super) fn settle_untold(&mut self, notices: &mut VecDeque<Notice>) {
        for sending in &mut self.sends {
            sending.result.get_or_insert(-UNTOLD);
        }
        self.settle(notices);
    }

    /// Keeps for ever what the kernel may still read, and tells the owners that it is over.
    pub(super) fn leak(&mut self, notices: &mut VecDeque<Notice>) {
        notices.extend(self.sends.drain(..).map(|sending| match sending.result {
            Some(_) => sending.over(),
            None => sending.leak(),
        }));
    }
}

impl Sending {
    fn over(self) -> Notice {
        let Sending { owner, data, length, result } = self;
        let outcome = match result {
            None => Outcome::Sent { data, sent: length as usize, result: Ok(()) },
            Some(result) => sent_in_part(data, result),
        };
        Notice::Outcome(owner, outcome)
    }

    fn leak(self) -> Notice {
        let Sending { owner, data, .. } = self;
        std::mem::forget(data);
        let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
        Notice::Outcome(owner, Outcome::Sent { data: Gather::default(), sent: 0, result })
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
