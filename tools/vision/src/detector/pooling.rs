//! RoI max pooling, as it is defined: what every faster form must equal.

/// Pools each region `[x1, y1, x2, y2]` (pixels of the network's image) of one feature map `[channels, height, width]` to
/// `[regions, channels, side, side]`. `scale` is cells per pixel: 1/16.
///
/// Corners are rounded half away from zero, both of them belong to the region, and a bin that covers no cell is 0.
///
/// # Panics
/// If the map has another length.
pub fn roi_max_pool(
    map: &[f32],
    [channels, height, width]: [usize; 3],
    regions: &[[f32; 4]],
    scale: f32,
    side: usize,
) -> Vec<f32> {
    assert_eq!(map.len(), channels * height * width);
    let mut pooled = Vec::with_capacity(regions.len() * channels * side * side);
    for region in regions {
        let [x1, y1, x2, y2] = region.map(|corner| (corner * scale).round());
        let rows = bins(y1, y2, height, side);
        let columns = bins(x1, x2, width, side);
        for plane in map.chunks_exact(height * width) {
            for &(top, bottom) in &rows {
                for &(left, right) in &columns {
                    let cells =
                        (top..bottom).flat_map(|y| &plane[y * width + left..y * width + right]);
                    pooled.push(cells.copied().reduce(f32::max).unwrap_or(0.0));
                }
            }
        }
    }
    pooled
}

/// The cells of each bin of one axis: the first, and one past the last. An empty bin has both alike.
pub fn bins(from: f32, to: f32, cells: usize, side: usize) -> Vec<(usize, usize)> {
    let step = (to - from + 1.0).max(1.0) / side as f32;
    let within = |cell: f32| cell.clamp(0.0, cells as f32) as usize;
    let bin = |n: usize| {
        let first = within((n as f32 * step).floor() + from);
        (first, within(((n + 1) as f32 * step).ceil() + from).max(first))
    };
    (0..side).map(bin).collect()
}
