//! What the response to a request means for its events.
//!
//! Guarantees: reasons hold no secrets once they are masked. Does not act on anything: the parent module does.

use super::meaning::{self, Meaning, Row, explained};
use crate::net::reply::Reply;
use crate::net::secrets::Secrets;

/// The result of a request with a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All its events were accepted.
    Delivered,
    /// No event counts as accepted; the server may accept them later. Holds the reason.
    Retry(String),
    /// The events may have been accepted, or be at fault: a few further attempts decide. Holds the reason.
    Doubtful(String),
    /// Some may have been accepted, and halves show which. Only for several events. Holds the reason.
    Unclear(String),
    /// The request must be smaller. Holds the reason.
    TooLarge(String),
    /// It will never be accepted: at least one of its events is at fault, or what all requests have in common. Holds the
    /// reason.
    Refused(String),
    /// A result for each event.
    Items(Items),
}

impl Verdict {
    /// The same without secrets in its reasons. `breathe` is called for each of them: a server may send very many.
    pub(super) async fn masked(self, secrets: &Secrets, breathe: &impl AsyncFn()) -> Verdict {
        let masked = |text: String| secrets.masked(text);
        match self {
            Verdict::Delivered => Verdict::Delivered,
            Verdict::Retry(why) => Verdict::Retry(masked(why)),
            Verdict::Doubtful(why) => Verdict::Doubtful(masked(why)),
            Verdict::Unclear(why) => Verdict::Unclear(masked(why)),
            Verdict::TooLarge(why) => Verdict::TooLarge(masked(why)),
            Verdict::Refused(why) => Verdict::Refused(masked(why)),
            Verdict::Items(mut items) => {
                let others = items.barred.iter_mut().map(|item| &mut item.why);
                let whys = items.doubtful.iter_mut().chain(&mut items.rejected).map(|(_, why)| why);
                for why in whys.chain(others) {
                    *why = masked(std::mem::take(why));
                    breathe().await;
                }
                Verdict::Items(Items { error: masked(items.error), ..items })
            }
        }
    }
}

/// An event that the server refuses because of its index.
#[derive(Debug, PartialEq, Eq)]
pub struct BarredItem {
    /// Its place in the request.
    pub place: usize,
    /// The reason.
    pub why: String,
    /// The server waited before it said so.
    pub is_late: bool,
}

/// The results of the events of a request. Those that are not listed were accepted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// Places in the request of events to send again, ascending.
    pub retry: Vec<usize>,
    /// Those of them that the server refuses because of their index.
    pub barred: Vec<BarredItem>,
    /// Places of events that may be at fault or may have been accepted, ascending, with reasons.
    pub doubtful: Vec<(usize, String)>,
    /// Places of events that are rejected for good, with reasons.
    pub rejected: Vec<(usize, String)>,
    /// The place from which on there are no results.
    pub unsaid_from: Option<usize>,
    /// Why the first event in `retry` is to be sent again.
    pub error: String,
}

/// The meaning of a status if the body of the response does not matter.
pub fn verdict_of_status(reply: &Reply) -> Verdict {
    verdict_of(meaning::of_reply(reply), reply.shown())
}

/// The meaning of a row of the table for a whole request; `shown` describes the response.
pub fn verdict_of(row: &Row, shown: String) -> Verdict {
    match row.meaning {
        Meaning::Taken => Verdict::Delivered,
        Meaning::Wait | Meaning::Barred | Meaning::Late => Verdict::Retry(explained(row, shown)),
        Meaning::Doubtful => Verdict::Doubtful(explained(row, shown)),
        Meaning::TooLarge => Verdict::TooLarge(shown),
        Meaning::Exists | Meaning::Refused => Verdict::Refused(shown),
    }
}
