/** The one page of the sample. It draws what the events say, and nothing that it has sent itself. */
export const boardPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Orders</title>
<link rel="icon" href="data:,">
<style>
  :root { --ink: #1f2933; --soft: #64748b; --line: #e2e8f0; --paper: #f6f7f9 }
  * { box-sizing: border-box }
  body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
  header, main { max-width: 64rem; margin: 0 auto; padding: 0 1.25rem }
  header { display: flex; align-items: center; gap: 1rem; flex-wrap: wrap; padding-block: 1.75rem 1.25rem }
  h1 { margin: 0; font-size: 1.6rem; letter-spacing: -.02em }
  [role=status] { display: flex; align-items: center; gap: .45rem; color: var(--soft); font-size: .9rem }
  [role=status]::before { content: ''; width: .6rem; height: .6rem; border-radius: 50%; background: #f59e0b }
  [data-state=live] [role=status]::before { background: #10b981; box-shadow: 0 0 0 .25rem #10b98126 }
  form { display: flex; gap: .5rem; margin-left: auto }
  input, button { font: inherit; border-radius: .5rem; border: 1px solid var(--line); padding: .45rem .75rem; background: #fff }
  input:focus-visible, button:focus-visible { outline: 2px solid #6366f1; outline-offset: 1px }
  [name=dish] { width: 14rem }
  [name=table] { width: 5rem }
  button { cursor: pointer }
  form button { border-color: #4f46e5; background: #4f46e5; color: #fff; font-weight: 600 }
  .board { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem }
  section { background: #fff; border: 1px solid var(--line); border-radius: .9rem; padding: 1rem; min-height: 16rem }
  h2 { display: flex; justify-content: space-between; margin: 0 0 .75rem; font-size: .8rem; text-transform: uppercase;
       letter-spacing: .08em; color: var(--soft) }
  ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .6rem }
  li { display: grid; grid-template-columns: 1fr auto; align-items: center; gap: .1rem .75rem; padding: .7rem .8rem;
       border: 1px solid var(--line); border-left: .3rem solid var(--tone); border-radius: .6rem }
  li b { overflow-wrap: anywhere }
  li small { grid-row: 2; color: var(--soft) }
  li button { grid-row: 1 / 3; grid-column: 2; font-size: .85rem; padding: .3rem .7rem }
  li.fresh { animation: fresh 1.2s ease-out }
  @keyframes fresh { from { background: #eef2ff; transform: translateY(-.3rem) } }
  [data-status=new] { --tone: #6366f1 }
  [data-status=cooking] { --tone: #f59e0b }
  [data-status=ready] { --tone: #10b981 }
  [role=alert] { min-height: 1.5rem; margin: 0 0 .5rem; color: #b00020 }
  @media (max-width: 44rem) { .board { grid-template-columns: 1fr } form { margin-left: 0; width: 100% }
    [name=dish] { flex: 1; min-width: 0 } }
  @media (prefers-reduced-motion: reduce) { li.fresh { animation: none } }
</style>
</head>
<body data-state="connecting">
<header>
  <h1>Orders</h1>
  <span role="status">connecting</span>
  <form>
    <input name="dish" aria-label="Dish" placeholder="Mushroom risotto" maxlength="60" required autofocus>
    <input name="table" aria-label="Table" type="number" min="1" max="99" value="4" required>
    <button>Order</button>
  </form>
</header>
<main>
  <p role="alert"></p>
  <div class="board">
    <section data-status="new"><h2>New <span></span></h2><ul></ul></section>
    <section data-status="cooking"><h2>Cooking <span></span></h2><ul></ul></section>
    <section data-status="ready"><h2>Ready <span></span></h2><ul></ul></section>
  </div>
</main>
<script type="module">
  const NEXT = { new: 'Cook', cooking: 'Done', ready: 'Serve' };
  const orders = new Map();

  const card = ({ id, dish, table, status }, fresh) => {
    const item = document.createElement('li');
    item.dataset.id = id;
    item.dataset.status = status;
    item.classList.toggle('fresh', id === fresh);
    const [name, place, button] = ['b', 'small', 'button'].map((tag) => item.appendChild(document.createElement(tag)));
    name.textContent = dish;
    place.textContent = 'Table ' + table + ' · no. ' + id;
    button.textContent = NEXT[status];
    button.onclick = () => send('/orders/' + id + '/advance', { from: status });
    return item;
  };

  const draw = (fresh) => {
    for (const section of document.querySelectorAll('section')) {
      const here = [...orders.values()].filter(({ status }) => status === section.dataset.status);
      section.querySelector('ul').replaceChildren(...here.map((order) => card(order, fresh)));
      section.querySelector('h2 span').textContent = here.length || '';
    }
  };

  const say = (state, text) => {
    document.body.dataset.state = state;
    document.querySelector('[role=status]').textContent = text;
  };

  // The browser connects again by itself when the stream ends, and is then sent the whole board.
  const events = new EventSource('/events');
  events.addEventListener('board', ({ data }) => {
    const board = JSON.parse(data);
    orders.clear();
    for (const order of board.orders) orders.set(order.id, order);
    say('live', board.isGap ? 'live again: the board was read anew' : 'live');
    draw();
  });
  events.addEventListener('order', ({ data }) => {
    const order = JSON.parse(data);
    if (order.status === 'served') orders.delete(order.id);
    else orders.set(order.id, order);
    draw(order.id);
  });
  events.onerror = () => say('connecting', 'connecting');

  const send = async (path, body) => {
    const response = await fetch(path, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
    });
    document.querySelector('[role=alert]').textContent = response.ok ? '' : (await response.json()).message;
    return response.ok;
  };
  document.querySelector('form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const { dish, table } = event.target.elements;
    if (await send('/orders', { dish: dish.value, table: table.valueAsNumber })) dish.value = '';
  });
</script>
</body>
</html>
`;
