DRAW.variance = (view) => {
  const shown = DATA.variance.filter((one) => one.at === state.at && view.subjects.some((subject) => subject.task === one.task && subject.model === one.model &&
    (one.cell === null || subject.rows.some((row) => row.cell === one.cell))));
  // shares are of all arms together: with arms hidden they would be of something else
  const whole = shown.filter((one) => one.cell !== null || !state.arms);
  if (!whole.length) return null;
  // one run per combination: what is left of the spread is how the second acts otherwise beside the first
  const named = ({ cell, shares: [[first, a], [second, b], [, rest]] }) => [[first, a],
    [cell === null ? `${second}, alike in every arm` : second, b],
    [cell === null ? `${second}, other in every arm` : `${first} and ${second} together`, rest]];
  return whole.map((one) => [
    h("h3", {}, one.cell === null ? one.task : CELLS.get(one.cell).arm, h("small", {}, one.cell === null ? ` with ${one.model}` : `; ${one.task} with ${one.model}`,
      `; ${one.n_columns} ${one.shares[0][0]}s, ${one.n_rows} ${one.shares[1][0]}s`)),
    figure(`variance ${one.task} ${one.model}`, sharesChart(named(one), wide(760)))]);
};
