//! Tornado's `IOLoop` on io_uring.

mod builder;
mod callbacks;
mod clock;
mod driver;
mod error;
mod events;
mod features;
mod fork;
mod handle;
mod handlers;
mod io_loop;
mod metrics;
mod periodic;
mod report;
mod sys;
mod timeouts;

pub use builder::Builder;
pub use clock::Deadline;
pub use error::LoopError;
pub use events::{Events, Trigger};
pub use features::KernelFeatures;
pub use handle::LoopHandle;
pub use handlers::AddHandlerError;
pub use io_loop::{IoLoop, Timeout};
pub use metrics::Metrics;
pub use periodic::PeriodicCallback;
pub use report::{CallbackKind, Origin, PanicReport, Panics, SlowReport};
