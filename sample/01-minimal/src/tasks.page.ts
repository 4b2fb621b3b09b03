import type { Task } from './task.js';

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Text as it may stand in HTML, between tags or in a quoted attribute. */
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);

const row = ({ id, title }: Task): string =>
  `<li><span>${escapeHtml(title)}</span> <button data-id="${id}" title="Delete">&times;</button></li>`;

/** The one page of the sample. Its script speaks the same JSON API as everybody else. */
export const tasksPage = (tasks: Task[]): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tasks</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem; color: #223 }
  form { display: flex; gap: .5rem }
  input { flex: 1 }
  input, button { font: inherit; padding: .3rem .6rem }
  ul { list-style: none; padding: 0 }
  li { display: flex; justify-content: space-between; border-bottom: 1px solid #dde; padding: .4rem 0 }
  [role=alert] { min-height: 1.5rem; margin: .5rem 0; color: #b00020 }
</style>
</head>
<body>
<h1>Tasks</h1>
<form>
  <input name="title" aria-label="Title" placeholder="Water the plants" autofocus>
  <button>Add</button>
</form>
<p role="alert"></p>
<ul>
${tasks.map(row).join('\n')}
</ul>
<script type="module">
  const send = async (path, init) => {
    const response = await fetch(path, init);
    if (response.ok) location.reload();
    else document.querySelector('[role=alert]').textContent = (await response.json()).message;
  };
  document.querySelector('form').addEventListener('submit', (event) => {
    event.preventDefault();
    const title = new FormData(event.target).get('title');
    send('/tasks', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ title }) });
  });
  document.querySelector('ul').addEventListener('click', ({ target }) => {
    if (target.dataset.id) send('/tasks/' + target.dataset.id, { method: 'DELETE' });
  });
</script>
</body>
</html>
`;
