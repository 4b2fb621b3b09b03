/** The one page of the sample. Its script speaks the same API as everybody else. */
export const importsPage = (count: number): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Import</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem; color: #223 }
  progress { width: 100% }
  button, input { font: inherit }
  [role=alert] { min-height: 1.5rem; margin: .5rem 0; color: #b00020 }
</style>
</head>
<body>
<h1>Cities</h1>
<p><output>${count}</output> cities are stored. <a href="/cities.csv">Download them</a></p>
<p>A file in CSV with the header <code>name,country,population</code>:</p>
<input type="file" accept=".csv,text/csv" aria-label="File">
<button id="cancel" disabled>Cancel</button>
<progress value="0" max="1"></progress>
<p role="alert"></p>
<script type="module">
  const [input, cancel, bar, alert, output] = ['input', '#cancel', 'progress', '[role=alert]', 'output'].map((at) => document.querySelector(at));
  input.addEventListener('change', async () => {
    const [file] = input.files;
    const url = '/imports/' + crypto.randomUUID();
    const abort = new AbortController();
    const events = new EventSource(url + '/progress');
    events.onmessage = ({ data }) => { bar.value = Math.max(bar.value, JSON.parse(data).bytes / file.size); };
    cancel.onclick = () => abort.abort();
    cancel.disabled = false;
    bar.value = 0;
    alert.textContent = '';
    try {
      const response = await fetch(url, { method: 'POST', body: file, headers: { 'content-type': 'text/csv' }, signal: abort.signal });
      const { rows, message, line, column } = await response.json();
      if (response.ok) output.textContent = Number(output.textContent) + rows;
      else alert.textContent = (line ? 'Line ' + line + (column ? ', ' + column : '') + ': ' : '') + message;
    } catch (error) {
      alert.textContent = error.message;
    }
    events.close();
    cancel.disabled = true;
    input.value = '';
  });
</script>
</body>
</html>
`;
