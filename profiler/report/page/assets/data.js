// The records of the study, one object each, with the texts in place of their numbers.

const RECORDS = DATA.records.map((row, number) => {
  const record = { place: number };
  DATA.columns.forEach((name, column) => { record[name] = row[column]; });
  for (const name of ["model", "method", "settings", "outcome", "message"]) record[name] = DATA.texts[record[name]];
  record.notes = record.notes.map((number) => DATA.texts[number]);
  record.is_finished = record.outcome === "ok";
  return record;
});

const provenance = (record) => DATA.sources[record.source].provenance;
