DRAW.memory = (view) => each(view, (one) => { const made = costChart(one, wide(860), "memory"); return made && figure(`memory ${one.task} ${one.model}`, made); });
