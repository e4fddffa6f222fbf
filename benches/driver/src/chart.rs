//! The picture in the README: one bar a side.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::SceneResult;

const WIDTH: u32 = 760;
const BAR: i32 = 26;
const GAP: i32 = 14;
/// Room for the names.
const LEFT: i32 = 230;
/// Room for a number behind the longest bar.
const RIGHT: i32 = 90;
const TOP: i32 = 52;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const OTHERS: RGBColor = RGBColor(0x8b, 0x94, 0x9e);

/// Draws the median rates of a scene. Grey on transparent reads on a light and on a dark page.
pub fn draw(file: &Path, title: &str, scene: &SceneResult) -> anyhow::Result<()> {
    let mut bars: Vec<(&str, f64)> = scene
        .sides()
        .into_iter()
        .filter_map(|side| Some((side, scene.spread(side, "rate")?.median)))
        .collect();
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = bars.first().map_or(1.0, |bar| bar.1);
    let height = TOP + bars.len() as i32 * (BAR + GAP) + GAP;
    let area = SVGBackend::new(file, (WIDTH, height as u32)).into_drawing_area();
    let text = |size: i32, at: HPos| {
        ("sans-serif", size)
            .into_font()
            .color(&OTHERS)
            .pos(Pos::new(at, VPos::Center))
    };
    let failed = |error: DrawingAreaErrorKind<std::io::Error>| anyhow!("cannot draw: {error}");
    area.draw_text(title, &text(17, HPos::Left), (GAP, TOP / 2))
        .map_err(failed)?;
    let span = f64::from(WIDTH as i32 - LEFT - RIGHT);
    for (nth, (side, rate)) in bars.into_iter().enumerate() {
        let top = TOP + nth as i32 * (BAR + GAP);
        let middle = top + BAR / 2;
        let end = LEFT + (rate / most * span) as i32;
        let colour = if side.starts_with("orderstream") { OURS } else { OTHERS };
        let bar = Rectangle::new([(LEFT, top), (end, top + BAR)], colour.filled());
        area.draw(&bar).map_err(failed)?;
        area.draw_text(side, &text(14, HPos::Right), (LEFT - 10, middle))
            .map_err(failed)?;
        area.draw_text(&format!("{rate:.0}/s"), &text(14, HPos::Left), (end + 8, middle))
            .map_err(failed)?;
    }
    area.present().map_err(failed)?;
    Ok(())
}
