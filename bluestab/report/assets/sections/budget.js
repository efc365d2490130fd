DRAW.budget = (view) => each(view, (one) => { const made = budgetChart(one, wide()); return made && figure(`budget ${one.task} ${one.model}`, made); });
