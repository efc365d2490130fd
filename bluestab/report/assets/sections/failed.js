DRAW.failed = (view) => each(view, (one) => one.rows.some((row) => row.n) && figure(`failed ${one.task} ${one.model}`, failedChart(one, wide(760))));
