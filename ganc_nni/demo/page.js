() => {
  // Gradio lets no attributes through from Python. Those who hear the page are told of answers and failures, and not
  // of icons; what is drawn on has a name.
  const name = () => {
    const told = document.querySelector('#status .html-container');  // beside it Gradio counts tenths of seconds
    if (told && !told.hasAttribute('role')) {
      told.setAttribute('role', 'status');
      told.setAttribute('aria-live', 'polite');
    }
    document.querySelectorAll('svg:not([aria-hidden])').forEach((icon) => icon.setAttribute('aria-hidden', 'true'));
    document.querySelectorAll('#draw canvas:not([role])').forEach((board) => {
      board.setAttribute('role', 'img');
      board.setAttribute('aria-label', 'drawing board, for a mouse, a pen or a finger');
    });
  };
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
}
