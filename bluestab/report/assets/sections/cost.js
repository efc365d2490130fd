DRAW.cost = (view) => each(view, (one) => { const made = costChart(one, wide(860)); return made && figure(`cost ${one.task} ${one.model}`, made); });
