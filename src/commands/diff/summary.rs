//! `npk diff --summary`: how far apart the values are, by array, by layer and in total.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::commands::tree::layer;
use crate::compare::{Compared, Distance, Verdict};
use crate::console::{Console, visible};
use crate::model::json_float::number;
use crate::resolve::names::natural;

/// The figures of an array, a layer or all.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Arrays that they are of.
    arrays: u64,
    of: u64,
    changed: u64,
    /// Of the numbers among them.
    distance: Option<Distance>,
}

impl Figures {
    /// `None` where nothing was compared.
    fn of(compared: &Compared) -> Option<Figures> {
        let changed = match &compared.verdict {
            Verdict::Equal => 0,
            Verdict::Different(d) => d.count,
            _ => return None,
        };
        Some(Figures { arrays: 1, of: compared.of, changed, distance: compared.distance })
    }
    fn add(&mut self, other: &Figures) {
        self.arrays += other.arrays;
        self.of = self.of.saturating_add(other.of);
        self.changed += other.changed;
        if let Some(d) = &other.distance {
            self.distance.get_or_insert_default().add(d);
        }
    }
    /// The share of changed elements, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.changed as f64 / self.of as f64 }
    }
    /// Whether an element differs.
    pub fn is_changed(&self) -> bool {
        self.changed > 0
    }
    /// How many arrays they are of.
    pub fn arrays(&self) -> u64 {
        self.arrays
    }
    fn l2(&self) -> f64 {
        self.distance.as_ref().map_or(0.0, Distance::l2)
    }
    /// As JSON; figures that there are none of are null.
    pub fn json(&self) -> Value {
        let figure = |of: fn(&Distance) -> Option<f64>| {
            self.distance.as_ref().and_then(of).map_or(Value::Null, number)
        };
        json!({
            "of": self.of, "changed": self.changed, "share": number(self.share()),
            "measured": self.distance.as_ref().map(|d| d.finite),
            "l2": figure(|d| Some(d.l2())), "relative": figure(Distance::relative),
            "largest": figure(|d| Some(d.largest)), "cosine": figure(Distance::cosine),
        })
    }
    /// As the cells of a table.
    pub fn cells(&self, name: String) -> Vec<String> {
        let figure = |of: fn(&Distance) -> Option<f64>| {
            self.distance.as_ref().and_then(of).map_or_else(|| "–".into(), short)
        };
        let cosine = self.distance.as_ref().and_then(Distance::cosine);
        vec![
            name,
            share_text(self.changed, self.of),
            figure(|d| Some(d.l2())),
            figure(Distance::relative),
            figure(|d| Some(d.largest)),
            cosine.map_or_else(|| "–".into(), |c| format!("{c:.6}")),
        ]
    }
}

/// All figures of a comparison.
pub struct Summary {
    /// By name, those that differ most first.
    arrays: Vec<(String, Figures)>,
    positions: HashMap<String, usize>,
    /// In the order of their names.
    layers: Vec<(String, Figures)>,
    /// Of all arrays that were compared.
    pub total: Figures,
}

impl Summary {
    /// The figures of what was compared.
    pub fn of(compared: &[Compared]) -> Summary {
        let mut total = Figures::default();
        let mut layers: IndexMap<&str, Figures> = IndexMap::new();
        let mut arrays: Vec<(String, Figures)> = Vec::new();
        for c in compared {
            let Some(figures) = Figures::of(c) else { continue };
            total.add(&figures);
            layers.entry(layer(&c.name)).or_default().add(&figures);
            arrays.push((c.name.clone(), figures));
        }
        arrays.sort_by(|(_, x), (_, y)| {
            y.l2().total_cmp(&x.l2()).then(y.share().total_cmp(&x.share()))
        });
        let mut layers: Vec<(String, Figures)> =
            layers.into_iter().map(|(name, figures)| (name.to_string(), figures)).collect();
        layers.sort_by(|(x, _), (y, _)| natural(x, y));
        let positions = arrays.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Summary { arrays, positions, layers, total }
    }
    /// Those of an array, if it was compared.
    pub fn of_array(&self, name: &str) -> Option<&Figures> {
        self.positions.get(name).map(|&i| &self.arrays[i].1)
    }
    /// By name, those that differ most first.
    pub fn arrays(&self) -> &[(String, Figures)] {
        &self.arrays
    }
    /// In the order of their names.
    pub fn layers(&self) -> &[(String, Figures)] {
        &self.layers
    }
    /// Those of the layers, as JSON.
    pub fn layers_json(&self) -> Value {
        let layer = |(name, figures): &(String, Figures)| json!({"name": name, "arrays": figures.arrays, "summary": figures.json()});
        self.layers.iter().map(layer).collect()
    }
    /// Tables of what differs.
    pub fn text(&self, console: Console) -> String {
        let changed = |list: &[(String, Figures)]| -> Vec<Vec<String>> {
            let changed = list.iter().filter(|(_, f)| f.changed > 0);
            changed.map(|(name, f)| f.cells(visible(name))).collect()
        };
        let mut out = String::new();
        let rows = changed(&self.arrays);
        let equal = self.arrays.len() - rows.len();
        if !rows.is_empty() {
            out += &table("array", rows, console);
        }
        let rows = changed(&self.layers);
        if rows.len() > 1 && self.layers.len() < self.arrays.len() {
            out += "\n";
            out += &table("layer", rows, console);
        }
        if self.total.changed > 0 {
            out += "\n";
            out += &table(
                "total",
                vec![self.total.cells(format!("{} arrays", self.total.arrays))],
                console,
            );
        }
        if equal > 0 && self.total.changed > 0 {
            out += &format!("{equal} array{} equal\n", if equal == 1 { " is" } else { "s are" });
        }
        out
    }
}

fn table(what: &str, rows: Vec<Vec<String>>, console: Console) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::new());
    if !console.color_out {
        table.force_no_tty();
    }
    table.set_header([what, "changed", "L2", "relative", "largest", "cosine"]);
    rows.into_iter().for_each(|row| _ = table.add_row(row));
    table.trim_fmt() + "\n"
}

/// `100 %`, `12.5 %`, `0.0012 %`: never 0 or 100 where it is not.
fn share_text(changed: u64, of: u64) -> String {
    if changed == 0 || changed == of {
        return if changed == 0 { "0 %" } else { "100 %" }.into();
    }
    let percent = 100.0 * changed as f64 / of as f64;
    match percent {
        p if p < 0.001 => "< 0.001 %".into(),
        p if p > 99.999 => "> 99.999 %".into(),
        p if p < 0.1 => format!("{p:.3} %"),
        p => format!("{p:.4} %").replace(".0000", ""),
    }
}

/// A figure with four digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        a if a == 0.0 || (1e-3..1e5).contains(&a) => {
            let digits = if a == 0.0 { 0 } else { (3 - a.log10().floor() as i32).max(0) as usize };
            let text = format!("{value:.digits$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
                false => text,
            }
        }
        _ => format!("{value:.3e}"),
    }
}
