//! Indexes for which a server accepts nothing, and more of them than are allowed: what becomes of their events and of all others.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A server with indexes that are closed or have no shard, and all others open, until it accepts nothing at all.
fn closed_index(seen: &Seen, closes_all: bool) -> Act {
    let text = seen.text();
    let actions = text.lines().step_by(2).map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let item = |action: serde_json::Value| match action["index"]["_index"].as_str().expect("a name") {
        name if closes_all || name.contains("closed") => {
            let error = json!({ "type": "index_closed_exception", "reason": "closed", "index": name });
            json!({ "index": { "status": 400, "error": error } })
        }
        name if name.contains("red") => {
            let error = json!({ "type": "unavailable_shards_exception", "reason": "primary shard is not active" });
            json!({ "index": { "status": 503, "error": error } })
        }
        _ => json!({ "index": { "status": 201 } }),
    };
    let items: Vec<_> = actions.map(item).collect();
    let errors = items.iter().any(|item| item["index"]["status"] != 201);
    Act::Send(answer(200, "", json!({ "errors": errors, "items": items }).to_string().as_bytes()))
}

/// Delivers one batch of lines after the other, each until it is decided or for three times as long as an output waits for an index.
/// Returns how each ended.
fn deliver_all(server: &Server, index: &str, batches: Vec<Vec<String>>) -> Vec<Outcome> {
    deliver_within(barred::WAIT * 3, server, index, batches)
}

fn deliver_within(longest: Duration, server: &Server, index: &str, batches: Vec<Vec<String>>) -> Vec<Outcome> {
    let settings = settings(&[server.url()], json!({ "index": index }));
    crate::outputs::requests::tests::on_shard(move |env| async move {
        let mut output = crate::outputs::requests::tests::open(&env, &settings).await.expect("it opens");
        let mut outcomes = Vec::new();
        for lines in batches {
            let mut delivery = delivery(&lines, u64::try_from(env.wall().0).expect("after 1970"));
            let until = env.now().after(longest);
            loop {
                let outcome = output.deliver(&delivery).await;
                if !matches!(outcome, Outcome::Retry { .. }) || env.now() >= until {
                    outcomes.push(outcome);
                    break;
                }
                delivery.attempt += 1;
                env.sleep(barred::WAIT / 20).await;
            }
        }
        outcomes
    })
}

fn named(svc: &str, number: u64) -> String {
    format!("{{\"svc\":\"{svc}\",\"number\":{number}}}\n")
}

#[test]
fn index_that_a_value_chose_and_that_is_closed_stops_no_other() {
    let server = Server::start(|_, seen| closed_index(seen, false));
    let batches = vec![
        vec![named("good", 0)],
        // Alone in its delivery, and together with others.
        vec![named("closed", 1)],
        vec![named("closed2", 2), named("good", 3), named("closed", 4)],
    ];
    let outcomes = deliver_all(&server, "x-{{ svc }}-%Y.%m.%d", batches);
    let [Outcome::Delivered, Outcome::Rejected(alone), Outcome::Rejected(mixed)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(alone[0].1.contains("index_closed_exception") && alone[0].1.contains("other indexes"), "{alone:?}");
    assert_eq!(mixed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(server.seen().last().map(numbers), Some(vec![2, 3, 4]), "it did not wait again");
}

#[test]
fn server_that_accepts_nothing_any_more_makes_the_output_wait_whatever_it_says() {
    let server = Server::start(|number, seen| closed_index(seen, number > 0));
    let batches = vec![vec![named("a", 0), named("b", 1)], vec![named("a", 2), named("b", 3)]];
    let outcomes = deliver_all(&server, "x-{{ svc }}", batches);
    assert!(matches!(outcomes[..], [Outcome::Delivered, Outcome::Retry { .. }]), "{outcomes:?}");
}

#[test]
fn index_of_today_that_no_event_chose_is_waited_for() {
    let server = Server::start(|_, seen| closed_index(seen, false));
    for index in ["closed", "closed-%Y.%m.%d"] {
        let outcomes = deliver_all(&server, index, vec![lines(2)]);
        assert!(matches!(outcomes[..], [Outcome::Retry { .. }]), "{index}: {outcomes:?}");
    }
}

/// After a start, nothing is known, and one user filled the first deliveries.
#[test]
fn events_behind_a_delivery_that_is_refused_as_a_whole_arrive() {
    let server = Server::start(|_, seen| closed_index(seen, false));
    let batches = vec![vec![named("closed", 0), named("closed2", 1)], vec![named("good", 2)], vec![named("closed", 3)]];
    let outcomes = deliver_within(barred::ALONE * 4, &server, "x-{{ svc }}", batches);
    let [Outcome::Rejected(first), Outcome::Delivered, Outcome::Rejected(last)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(
        first.len() == 2 && first[0].1.contains("index_closed_exception") && first[0].1.contains("accepted nothing")
    );
    assert!(last[0].1.contains("accepts events for other indexes"), "{last:?}");
}

#[test]
fn index_without_a_shard_is_given_up_and_asked_about_from_time_to_time() {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = is_repaired.clone();
    let server = Server::start(move |number, seen| match repaired.load(SeqCst) {
        true => good(number, seen),
        false => closed_index(seen, false),
    });
    let settings = settings(&[server.url()], json!({ "index": "x-{{ svc }}" }));
    crate::outputs::requests::tests::on_shard(move |env| async move {
        let mut output = crate::outputs::requests::tests::open(&env, &settings).await.expect("it opens");
        let asked = || server.seen().iter().filter(|seen| seen.text().contains("x-red")).count() as u128;
        // Until it is decided, within a bound that only a failure reaches.
        let mut send = async |lines: Vec<String>| {
            let mut delivery = delivery(&lines, 1);
            let until = env.now().after(Duration::from_secs(60));
            loop {
                match output.deliver(&delivery).await {
                    Outcome::Retry { error, .. } => assert!(env.now() < until, "{error}"),
                    outcome => return outcome,
                }
                delivery.attempt += 1;
                env.sleep(barred::WAIT / 20).await;
            }
        };
        assert!(matches!(send(vec![named("good", 0)]).await, Outcome::Delivered));
        let Outcome::Rejected(events) = send(vec![named("red", 1)]).await else { panic!() };
        assert!(
            events[0].1.contains("unavailable_shards_exception") && events[0].1.contains("check the health"),
            "{events:?}"
        );
        let (begun, before) = (env.now(), asked());
        for number in 0..30 {
            let Outcome::Rejected(events) = send(vec![named("red", number), named("good", number)]).await else {
                panic!()
            };
            assert!(matches!(&events[..], [(0, why)] if why.contains("unavailable_shards_exception")), "{events:?}");
        }
        let most = 1 + env.now().since(begun).as_nanos() / barred::ASK_EVERY.as_nanos();
        assert!(asked() - before <= most, "{} of {most}", asked() - before);
        is_repaired.store(true, SeqCst);
        let until = env.now().after(Duration::from_secs(60));
        // Between so many others that not all of them are looked at.
        let all = || (0..200).map(|number| named(if number == 101 { "red" } else { "good" }, number)).collect();
        while !matches!(send(all()).await, Outcome::Delivered) {
            assert!(env.now() < until, "nobody asks whether it is repaired");
            env.sleep(barred::ASK_EVERY / 20).await;
        }
        assert!(matches!(send(all()).await, Outcome::Delivered), "it is used again at once");
    });
}

/// Each shard has an instance, and an output that failed is opened again.
#[test]
fn instances_of_an_output_have_one_bound_of_indexes_and_count_what_is_beyond_it() {
    let server = Server::start(|_, seen| closed_index(seen, false));
    let settings = settings(&[server.url()], json!({ "index": "x-{{ svc }}", "max_indexes": 2 }));
    let counters = Arc::new(tailwater_shards::counters::OutputCounters::default());
    let counted = counters.clone();
    let outcomes = crate::outputs::requests::tests::on_shard(move |env| async move {
        let spec = settings.spec(&Facts::of("h"), "out");
        let mut outcomes = Vec::new();
        for names in [["a", "b"], ["c", "a"]] {
            let context = crate::outputs::requests::tests::context(&env, counters.clone());
            let mut output = spec.open(context, Resume::whole(Vec::new())).await.expect("it opens");
            outcomes.push(output.deliver(&delivery(&names.map(|svc| named(svc, 0)), 1)).await);
        }
        outcomes
    });
    let [Outcome::Delivered, Outcome::Rejected(events)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(matches!(&events[..], [(0, why)] if why.contains("of 2 none is left for `x-c`")), "{events:?}");
    assert_eq!(counted.excess_index_events.get(), 1);
}
