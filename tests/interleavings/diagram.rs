//! A schedule as a Mermaid sequence diagram.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::stores::{OnItsWay, Phase};
use crate::wire::Call;
use crate::world::{Event, Play, Step};

impl Play {
    /// `broken`: the rule that the last step breaks.
    pub fn draw(&self, steps: &[Step], broken: Option<&String>) -> String {
        let (mut lanes, mut lines) = (BTreeSet::new(), Vec::new());
        for step in worth_drawing(steps) {
            self.draw_step(step, &mut lines);
        }
        for line in &lines {
            lanes.extend(self.lanes().into_iter().filter(|(lane, _)| {
                let ends = line.split(": ").next().unwrap().split(['-', '>', ')', 'x', ' ', ',']);
                ends.into_iter().any(|end| end == lane)
            }));
        }
        let lanes: Vec<_> = self.lanes().into_iter().filter(|lane| lanes.contains(lane)).collect();
        let mut text = "sequenceDiagram\n".to_owned();
        for (lane, name) in &lanes {
            writeln!(text, "    participant {lane} as {name}").unwrap();
        }
        let all = format!("Note over {},{}", lanes[0].0, lanes[lanes.len() - 1].0);
        for line in lines {
            writeln!(text, "    {}", line.replacen("Note over all", &all, 1)).unwrap();
        }
        if let Some(rule) = broken {
            // A note is as wide as its lanes, and does not wrap.
            let rule = if rule.contains(", and") {
                format!("<br/>{}", rule.replace(", and", ",<br/>and"))
            } else {
                rule.clone()
            };
            writeln!(text, "    {all}: Broken: {rule}").unwrap();
        }
        text
    }

    /// Requests, then stores.
    fn lanes(&self) -> Vec<(String, String)> {
        let name = |client: u8| {
            let name = self.who_is(client);
            (lane(client), format!("{}{}", name[..1].to_uppercase(), &name[1..]))
        };
        let stores = [("Q", "Stream"), ("R", "Redis"), ("P", "PostgreSQL")];
        let stores = stores.map(|(lane, name)| (lane.to_owned(), name.to_owned()));
        (0..self.roles.len() as u8).map(name).chain(stores).collect()
    }

    fn draw_step(&self, Step { before, event, after }: &Step, lines: &mut Vec<String>) {
        let known = |call: usize| {
            let call = &before.stores.calls[call];
            (call, lane(call.who.0), self.store(call), self.call(call))
        };
        match *event {
            Event::TakesEffect { call } => {
                let (call, from, to, name) = known(call);
                if call.phase == Phase::Waits {
                    lines.push(format!("Note over {to}: {name} of {from} goes on"));
                } else {
                    lines.push(format!("{from}{}{to}: {name}", if call.is_heard { "->>" } else { "-)" }));
                }
                if self.phase(call, after) == Some(Phase::Waits) {
                    lines.push(format!("Note over {to}: it waits for the other transaction"));
                }
            }
            Event::Commits { call } => {
                let (_, _, to, name) = known(call);
                lines.push(format!("Note over {to}: {} is committed", name.trim_start_matches("INSERT of ")));
            }
            Event::Answers { call } => {
                let (call, to, from, _) = known(call);
                let Phase::Done(reply) = call.phase else { unreachable!("it has no answer yet") };
                let words = self.reply_in_words(reply);
                let words =
                    ["finds ", "takes ", "is "].iter().find_map(|verb| words.strip_prefix(verb)).unwrap_or(&words);
                lines.push(format!("{from}-->>{to}: {words}"));
            }
            Event::FindsNothingOverdue { call } => {
                let (_, from, to, name) = known(call);
                lines.push(format!("{from}->>{to}: {name}, which finds nothing old enough"));
            }
            Event::TimesOut { call } => {
                let (_, _, to, name) = known(call);
                lines.push(format!("Note over {to}: {name} has waited too long"));
            }
            Event::GetsLost { call } => {
                // Of any other call its caller has given up before.
                if let Call::Set(..) = self.values.calls.at(before.stores.calls[call].call) {
                    let (_, from, to, name) = known(call);
                    lines.push(format!("{from}-x{to}: {name}, which never arrives"));
                }
            }
            Event::AnswerGetsLost { call } => {
                let (call, from, to, name) = known(call);
                if call.phase == Phase::Sent {
                    lines.push(format!("{from}-x{to}: {name}, without an answer"));
                } else {
                    lines.push(format!("{to}--x{from}: no answer to {name}"));
                }
            }
            Event::Aborts { call } => {
                let (_, _, to, name) = known(call);
                lines.push(format!("Note over {to}: {name} is rolled back"));
            }
            Event::Expires { .. } | Event::RedisForgets { .. } | Event::RedisRecalls { .. } | Event::RedisGoes => {
                lines.push(format!("Note over R: {}", self.other(before, *event)));
            }
            Event::InstanceDies { attempt } | Event::ClientLeaves { attempt } => {
                let words = self.other(before, *event);
                let (_, words) = words.split_once(": ").unwrap();
                lines.push(format!("Note over {}: {words}", lane(before.attempts[attempt].client)));
            }
            Event::IsRepeated { client } => {
                let words = if self.is_consumer(client) { "it runs again" } else { "it is sent again" };
                lines.push(format!("Note over {}: {words}", lane(client)));
            }
            event => lines.push(format!("Note over all: {}", self.other(before, event))),
        }
        for ((client, _), answer) in self.answered(before, after) {
            let words = match (self.is_consumer(client), answer.as_str()) {
                (true, "200") => "nothing is left to do".into(),
                (true, _) => "it fails".into(),
                (false, _) => format!("answered {answer}"),
            };
            lines.push(format!("Note over {}: {words}", lane(client)));
        }
    }

    fn store(&self, call: &OnItsWay) -> &'static str {
        match self.values.calls.at(call.call) {
            call if call.is_statement() => "P",
            Call::Get(_) | Call::Set(..) | Call::GetText(_) | Call::SetText { .. } | Call::Del { .. } => "R",
            _ => "Q",
        }
    }
}

/// `A`: the first request.
fn lane(client: u8) -> String {
    char::from(b'A' + client).to_string()
}

/// All but the repeats at the end that change nothing. The last one shows what is broken.
fn worth_drawing(steps: &[Step]) -> Vec<&Step> {
    let is_repeat = |step: &&Step| matches!(step.event, Event::IsRepeated { .. });
    let last = steps.iter().rev().position(|step| is_repeat(&step)).map_or(0, |from_end| steps.len() - from_end - 1);
    let mut drawn = Vec::new();
    let mut rest = steps;
    while let Some(first) = rest.first() {
        let length = 1 + rest[1..].iter().take_while(|step| !is_repeat(step)).count();
        let part = &rest[..length];
        let kept = |step: &Step| {
            let [before, after] = [&step.before, &step.after].map(|world| (&world.stores.rows, &world.stores.results));
            before == after
        };
        let changes = !part.iter().all(kept);
        if !is_repeat(&first) || changes || steps.len() - rest.len() == last {
            drawn.extend(part);
        }
        rest = &rest[length..];
    }
    drawn
}
