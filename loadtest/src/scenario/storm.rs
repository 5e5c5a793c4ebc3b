//! A storm: a share of the clients vanish at once, without a word, and come back, while a publisher goes on at a fixed
//! rate. How soon the server accepts again and serves them all, and what those who stayed notice of it. Everything is
//! due to those who stayed; to those who came back, whatever was sent after they had their 101.

use clap::Args;
use serde::Serialize;

use super::returning::{self, Return, ReturningArgs};
use super::{Stage, Verdict, fresh_topic};
use crate::error::Result;
use crate::figures::median;
use crate::generator::lives::Plan;
use crate::report::{Environment, Page};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest storm --clients 10000 --vanish 80% --server target/release/fanfare --pin --rounds 3
  loadtest storm --clients 2000 --vanish 50% --anew --handshakes 200")]
pub(crate) struct StormArgs {
    #[command(flatten)]
    returning: ReturningArgs,
    /// They register anew instead of coming back on their URL
    #[arg(long)]
    anew: bool,
}

/// All rounds, and their medians.
#[derive(Debug, Serialize)]
struct Storm {
    clients: usize,
    vanishing: usize,
    rate: f64,
    payload_bytes: usize,
    anew: bool,
    rounds: Vec<Return>,
    median_p99_ratio: Option<f64>,
    median_all_served_seconds: Option<f64>,
}

/// `loadtest storm`.
pub(crate) fn run(args: &StormArgs) -> Result<Verdict> {
    let returning = &args.returning;
    returning.check()?;
    let stage = Stage::set(&returning.crowd)?;
    let side = stage.target(&returning.target);
    let environment = Environment::describe(returning.crowd.pin, std::slice::from_ref(&side));
    let mut page = args.page();
    returning.output.begin(&page, &environment)?;
    let mut rounds = Vec::new();
    for number in 1..=usize::from(returning.rounds) {
        stage.interrupt.check()?;
        let server = side.open()?;
        let plan = Plan { anew: args.anew, ..returning.plan(&stage, &server, fresh_topic()) };
        rounds.push(returning.round(&plan, &stage, &server, (number, "all served"))?.0);
    }
    let result = Storm::new(args, rounds);
    let faultless = result.rounds.iter().all(Return::is_faultless);
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    let shown: Vec<&Return> = result.rounds.iter().collect();
    returning::show(&shown, "all served", &mut page);
    page.conclude(verdict, result.remarks());
    returning.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

impl StormArgs {
    fn page(&self) -> Page {
        let mut page =
            Page::new("storm", "Clients vanish all at once and come back: what everybody sees of it");
        let come_back = if self.anew { "with a new registration" } else { "on their URL" };
        self.returning.facts(&mut page, come_back);
        page
    }
}

impl Storm {
    fn new(args: &StormArgs, rounds: Vec<Return>) -> Self {
        let times: Option<Vec<f64>> = rounds.iter().map(|round| round.all_served_seconds).collect();
        Self {
            clients: args.returning.crowd.clients(),
            vanishing: rounds.first().map_or(0, |round| round.vanished as usize),
            rate: args.returning.rate,
            payload_bytes: args.returning.payload,
            anew: args.anew,
            median_p99_ratio: median(rounds.iter().map(|round| round.p99_ratio)),
            median_all_served_seconds: times.and_then(|times| median(times.into_iter())),
            rounds,
        }
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.rounds.iter().flat_map(Return::remarks).collect();
        if let (Some(ratio), true) = (self.median_p99_ratio, self.rounds.len() > 1) {
            remarks.push(format!("p99 of those who stayed, during / before, median: {ratio:.2}"));
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 => "Those who stayed got everything; those who came back, everything sent after their 101."
                .to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}
