//! What was measured: a table for people, JSON for programs.

use std::path::Path;

use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

/// All comparisons of a run.
#[derive(Default)]
pub struct Report(Vec<Row>);

/// One comparison.
pub struct Row {
    /// The goal of the project, and what of it.
    pub id: String,
    pub what: String,
    pub ours: f64,
    pub theirs: f64,
    pub unit: &'static str,
    pub samples: usize,
    pub goal: Goal,
}

/// What the ratio of ours to theirs should be, or ours itself.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// In the row's unit: what others publish as a figure and nobody can run beside us.
    OursAtMost(f64),
    None,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    pub fn print(&self) {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([
            "GOAL",
            "OURS : THEIRS",
            "OURS",
            "THEIRS",
            "UNIT",
            "RATIO",
            "SHOULD BE",
            "MET",
        ]);
        for row in &self.0 {
            let (should, met) = match row.goal {
                Goal::AtMost(goal) => (format!("≤ {goal}"), if row.ratio() <= goal { "yes" } else { "no" }),
                Goal::AtLeast(goal) => (format!("≥ {goal}"), if row.ratio() >= goal { "yes" } else { "no" }),
                Goal::OursAtMost(goal) => {
                    (format!("ours ≤ {goal} {}", row.unit), if row.ours <= goal { "yes" } else { "no" })
                }
                Goal::None => (String::new(), ""),
            };
            let figures = [format!("{:.1}", row.ours), format!("{:.1}", row.theirs)];
            let ratio = format!("{:.3}", row.ratio());
            table.add_row([
                &row.id,
                &row.what,
                &figures[0],
                &figures[1],
                &row.unit.to_owned(),
                &ratio,
                &should,
                &met.to_owned(),
            ]);
        }
        println!("{}", table.trim_fmt());
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let rows = self.0.iter().map(|row| {
            let goal = match row.goal {
                Goal::AtMost(goal) => json!({ "at_most": goal }),
                Goal::AtLeast(goal) => json!({ "at_least": goal }),
                Goal::OursAtMost(goal) => json!({ "ours_at_most": goal }),
                Goal::None => json!(null),
            };
            json!({
                "id": row.id,
                "what": row.what,
                "ours": row.ours,
                "theirs": row.theirs,
                "unit": row.unit,
                "ratio": row.ratio(),
                "samples": row.samples,
                "goal": goal,
            })
        });
        Ok(std::fs::write(path, serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?)?)
    }
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours / self.theirs
    }
}

/// Returns the value below which `share` of the samples lie.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let index = (samples.len() as f64 * share) as usize;
    samples.get(index.min(samples.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
