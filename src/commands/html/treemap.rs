//! A treemap: rectangles in proportion to sizes, as near to squares as they can be ("squarified").

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

/// A rectangle for each size, largest first; together they fill the area.
pub fn layout(sizes: &[f64], area: Rect) -> Vec<Rect> {
    let total: f64 = sizes.iter().sum();
    let mut out = Vec::with_capacity(sizes.len());
    if total <= 0.0 {
        return out;
    }
    let scale = area.w * area.h / total;
    let (mut free, mut at) = (area, 0);
    while at < sizes.len() {
        let side = free.w.min(free.h);
        let mut end = at + 1;
        let mut sum = sizes[at] * scale;
        // One more in this row, as long as that makes its worst rectangle no worse.
        while end < sizes.len() {
            let more = sum + sizes[end] * scale;
            let worst = |sum: f64, least: f64| worst(sum, sizes[at] * scale, least * scale, side);
            if worst(more, sizes[end]) > worst(sum, sizes[end - 1]) {
                break;
            }
            (sum, end) = (more, end + 1);
        }
        let thick = if side > 0.0 { sum / side } else { 0.0 };
        let mut along = 0.0;
        for size in &sizes[at..end] {
            let long = if thick > 0.0 { size * scale / thick } else { 0.0 };
            out.push(match free.w < free.h {
                true => Rect { x: free.x + along, y: free.y, w: long, h: thick },
                false => Rect { x: free.x, y: free.y + along, w: thick, h: long },
            });
            along += long;
        }
        free = match free.w < free.h {
            true => Rect { y: free.y + thick, h: (free.h - thick).max(0.0), ..free },
            false => Rect { x: free.x + thick, w: (free.w - thick).max(0.0), ..free },
        };
        at = end;
    }
    out
}

/// The worst ratio of sides in a row of this area, with these largest and least sizes.
fn worst(sum: f64, most: f64, least: f64, side: f64) -> f64 {
    let square = (side * side) / (sum * sum);
    (square * most).max(1.0 / (square * least))
}
