//! The dead letters of an output: what happens to those beyond its share of the queue, and whose they are.
//!
//! Guarantees: an output with `when_full: drop_newest` never waits for space in the queue. With `share_by`, the dead letters of one value
//! use at most the share of a source ([`tailwater_shards::dlq::shares`]), so those of others are still kept. Does not store anything.

use crate::codec::marked;
use crate::codec::template::{Template, UNKNOWN};
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use tailwater_shards::dlq::WhenFull;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::{Event, LocalFuture, OpenResult, OutputContext, OutputSpec, Placement, Resume};

/// What happens to a dead letter of an output when the output has used up its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LettersFull {
    /// The output waits until there is space; nothing is lost, and the events of all others wait too.
    Block,
    /// The dead letter is dropped and counted as discarded. The output continues.
    DropNewest,
}

/// Whose an event is, by its fields.
#[derive(Clone, Debug)]
pub struct Owner(Template);

impl Owner {
    /// Replaces `out` by who that is. Never empty: nobody's share is that of the whole output.
    pub fn of(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        out.clear();
        self.0.render(event, out);
        if out.is_empty() {
            out.extend_from_slice(UNKNOWN);
        }
    }
}

/// The dead letters of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetters {
    /// What happens when the output has used up its share of the dead letter queue. Default: what `dlq.when_full` says.
    pub when_full: Option<LettersFull>,
    /// Whose dead letters they are, by fields of the event, such as `{{ file }}`: each value gets a share of what the output may use,
    /// and of the places of `max_paths` or `max_indexes`. Choose a field that events cannot set. Needs `when_full: drop_newest`.
    #[serde(deserialize_with = "marked::optional")]
    pub share_by: Option<String>,
}

impl DeadLetters {
    /// The policy of the engine; none if the queue decides.
    pub fn full(&self) -> Option<WhenFull> {
        self.when_full.map(|when_full| match when_full {
            LettersFull::Block => WhenFull::Block,
            LettersFull::DropNewest => WhenFull::DropNewest,
        })
    }

    /// What is wrong with the settings.
    pub fn check(&self) -> Vec<Mistake> {
        let Some(text) = &self.share_by else { return Vec::new() };
        let at = |what: String, help| Mistake::new("dead_letters.share_by", what, help);
        match Template::parse(text) {
            Err(wrong) => wrong.into_iter().map(|what| at(what, "write it like {{ file }}")).collect(),
            Ok(template) if !template.has_fields() || template.has_dates() => {
                let what = "all events would have one share, or events could choose one by their date";
                vec![at(what.to_owned(), "write fields and no dates, such as {{ file }}")]
            }
            Ok(_) if self.when_full != Some(LettersFull::DropNewest) => {
                let what = "the output would wait for the first one who uses up a share, which is less than that of the output";
                let help = "add `when_full: drop_newest` to `dead_letters`, or remove `share_by`";
                vec![at(what.to_owned(), help).needing(&["dead_letters.when_full"])]
            }
            Ok(_) => Vec::new(),
        }
    }

    /// Whose events are; none if they are all of the output.
    pub fn owner(&self) -> Option<Owner> {
        self.share_by.as_deref().and_then(|text| Template::parse(text).ok()).map(Owner)
    }

    /// The same output, which tells whose events its dead letters are.
    pub fn of<E: Env>(&self, spec: Arc<dyn OutputSpec<E>>) -> Arc<dyn OutputSpec<E>> {
        match self.owner() {
            Some(owner) => Arc::new(Shared { spec, owner }),
            None => spec,
        }
    }
}

/// An output whose dead letters have owners.
struct Shared<E: Env> {
    spec: Arc<dyn OutputSpec<E>>,
    owner: Owner,
}

impl<E: Env> OutputSpec<E> for Shared<E> {
    fn placement(&self) -> Placement {
        self.spec.placement()
    }

    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult> {
        self.spec.open(context, resume)
    }

    fn owner_of(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.owner.of(event, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::env::Timestamp;
    use tailwater_shards::glommio_env::GlommioEnv;

    fn letters(text: &str) -> DeadLetters {
        serde_json::from_str(text).expect("settings")
    }

    #[test]
    fn shares_need_fields_and_an_output_that_does_not_wait() {
        let wrong = |when_full: &str, share_by: &str| {
            let mistakes = letters(&format!("{{{when_full}\"share_by\":\"{share_by}\"}}")).check();
            mistakes.into_iter().map(|mistake| mistake.what).collect::<Vec<_>>().join("; ")
        };
        let drop = "\"when_full\":\"drop_newest\",";
        assert_eq!((wrong(drop, "{{ file }}"), letters("{}").check().len()), (String::new(), 0));
        assert!(wrong(drop, "x").contains("one share") && wrong(drop, "{{ a }}-%F").contains("by their date"));
        assert!(wrong(drop, "{{ a").contains("without `}}`"));
        for waits in ["", "\"when_full\":\"block\","] {
            assert!(wrong(waits, "{{ file }}").contains("would wait"), "{waits}");
        }
        assert!(serde_json::from_str::<DeadLetters>("{\"when_full\":\"drop_oldest\"}").is_err());
    }

    #[test]
    fn every_event_has_an_owner_whatever_is_in_its_fields() {
        let blackhole = || {
            crate::config::component::OutputSettings::<GlommioEnv>::spec(
                &crate::outputs::blackhole::Settings::default(),
                &crate::config::component::Facts::of("h"),
                "out",
            )
        };
        let spec = letters("{\"when_full\":\"drop_newest\",\"share_by\":\"{{ file }}\"}").of(blackhole());
        let owner = |spec: &Arc<dyn OutputSpec<GlommioEnv>>, line: &str| {
            let mut out = Vec::new();
            spec.owner_of(&Event { line: line.as_bytes(), timestamp: Timestamp(0) }, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        for (line, expected) in [
            (r#"{"file":"/var/log/a.log"}"#, "/var/log/a.log"),
            (r#"{"file":""}"#, "unknown"),
            (r#"{"file":null}"#, "unknown"),
            ("{}", "unknown"),
        ] {
            assert_eq!(owner(&spec, line), expected, "{line}");
        }
        assert_eq!(owner(&letters("{}").of(blackhole()), r#"{"file":"x"}"#), "");
    }
}
