# The page in a container: docker build -t agegender . && docker run -p 7860:7860 agegender
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH

COPY --chown=user requirements.txt .
# The wheel for CPUs first: the one that requirements.txt would install brings gigabytes for GPUs.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 \
    && pip install --no-cache-dir -r requirements.txt
COPY --chown=user . .

ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$GRADIO_SERVER_PORT/')"
CMD ["python", "app.py"]
