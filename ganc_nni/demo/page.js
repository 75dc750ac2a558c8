() => {
  // Gradio lets no attribute through from Python: those who hear the page are told of answers and failures
  const told = document.getElementById('status');
  if (told) { told.setAttribute('role', 'status'); told.setAttribute('aria-live', 'polite'); }
}
